"""Questions about pairs of digits, answered from the frozen latents of a sprite model or from pixels, with few labels."""
