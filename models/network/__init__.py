"""The network as it was traced: layers, values, blocks, shapes."""
