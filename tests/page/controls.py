"""Every control of the page, how a visitor uses it, and what it governs: something of that must differ afterwards."""

PICTURES = "#model-columns canvas"
FINEST = "#scales-maps figure:last-child canvas"
CONTROLS: dict[str, tuple[str, ...]] = {
    # Alphabet
    "alphabet-hand": ("choose", "slanted", "#alphabet-pads canvas"),
    "alphabet-guidance": ("right", "#alphabet-guidance-out"),
    "alphabet-read": ("left", "#alphabet-read-out"),
    "alphabet-go": ("click", "#alphabet-sheet canvas:last-child"),
    "alphabet-again": ("click", "#alphabet-sheet canvas:last-child"),
    "alphabet-more": ("click", "#alphabet-pads"),
    "alphabet-text": ("type", "7", "#alphabet-line"),
    # One noise, several models
    "seed": ("type", "9", PICTURES),
    "new-seed": ("click", PICTURES),
    "steps": ("right", PICTURES),
    "guidance": ("right", PICTURES),
    "solver": ("choose", "heun", "#model-columns"),
    "time": ("home", PICTURES),
    # Memory
    "past": ("choose", "other", "#memory-changed"),
    "past-class": ("choose", "0", "#memory-changed"),
    "memory-step": ("left", "#memory-own"),
    # Scales
    "scales-model": ("choose-last", FINEST),
    "scales-brush": ("left", "#scales-brush-out"),
    "scales-edit": ("choose", "1", "#scales-maps"),
    "scales-clear": ("click", FINEST),
    "scales-restore": ("click", FINEST),
    # Drawing
    "pad-example": ("click", "#pad canvas"),
    "finish-class": ("choose", "3", "#finish-class"),
    "finish-time": ("right", "#finish-time-out"),
    "finish-go": ("click", "#finish-results"),
    "pad-clear": ("click", "#pad canvas"),
    # Low rank
    "degree": ("right", "#attention-poly"),
    "tau": ("right", "#attention-exact"),
    "query": ("right", "#row-exact"),
    # Circuits
    "circuit": ("choose", "product", "#circuit-inputs"),
    "level": ("left", "#circuit-canvas"),
    "gate": ("type", "3", "#gate-text"),
    "circuit-play": ("click", "#level-out"),
    "circuit-random": ("click", "#circuit-inputs"),
    # The page
    "theme": ("choose", "dark", "#memory-own"),
    "copy-link": ("click", "#status"),
    "play": ("click", "#time-out"),
}
ELSEWHERE = {"alphabet-png", "alphabet-svg", "alphabet-font", "alphabet-photo", "alphabet-photo-text"}
ELSEWHERE |= {
    "picture-brush",
    "picture-clear",
    "picture-file",
    "picture-class",
    "picture-strength",
    "picture-go",
    "scales-colour",
}
ELSEWHERE |= {"own-files", "tour-start", "tour-next", "tour-back", "tour-end", "forget-from"}
"""Controls with a test of their own."""
