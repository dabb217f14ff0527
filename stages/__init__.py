"""The stages of a run, one file each, and the wings that they are built from.

The stages of a run in their order. Each needs products of earlier stages, may use some where they are there, and gives
one of its own: a folder under that name. Nothing else flows from stage to stage.

    stage        needs                                            may use             gives
    fit          -                                                -                   original
    baseline     -                                                original            baseline
    library      -                                                original            library
    profile      baseline                                         original, library   profile
    sensitivity  baseline, profile                                original, library   sensitivity
    search       baseline, profile, sensitivity                   original, library   plan
    compress     baseline, profile, plan                          original, library   compressed
    recover      baseline, profile, plan, compressed              original, library   recovered
    export       baseline, profile, plan, compressed, recovered   original, library   exported
    verify       baseline, plan, exported                         -                   artifact

    fit          trains a pretrained network on your classes, where there is no trained one yet
    baseline     exports and measures the original: what everything is compared with
    library      trains replacements for every block, each alone
    profile      finds sites and candidates, and measures what candidates cost on the target
    sensitivity  measures how far each candidate takes the answers from the original's
    search       solves for the plan of least loss within the limits, measures it, corrects, solves again
    compress     makes the plan's changes in the user's own module
    recover      wins accuracy back: distils, then trains with the artifact's scales
    export       writes one ONNX file and compares it with torch
    verify       measures the artifact against every limit

A recipe may name fewer stages, or files of its own. `replay` stands in for profile and search in a run that follows a
lock. The wings, from the lowest: `solvers` and `engines` know nothing of networks and of runs; `products` are what
stages leave; `runtimes` execute files; `measuring` times them; `blocks` can be substituted in; `analysis` is the traced
original and the network of a plan; `transforms` are the kinds of change; `planning` predicts and searches; `training`
trains.
"""
