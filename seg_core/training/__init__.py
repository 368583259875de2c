"""What the training loop is made of: crops, their changes, checkpoints, the device."""
