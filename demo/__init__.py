"""The browser chat: Gradio only, on top of the public names of `himtok_core`."""
