"""Training: the loop, the student, distillation, replacements on their own."""
