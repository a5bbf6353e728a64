"""The page: header, tabs, theme, style and script, and the options it is launched with.

Knows how the whole looks. What is on a tab is left to the tab's own module.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr

from himtok_core import Chat, SamRefiner

from . import chat_tab
from .examples import Example
from .visitor import Visitor

HERE = Path(__file__).resolve().parent
MAX_VISITORS = 200  # whose state is kept; the longest unseen goes first
MAX_QUEUE = 40
MAX_UPLOAD = "32mb"
UPLOADS = (600, 3600)  # every so many seconds, files that were uploaded so many seconds ago are deleted

# Coarse to fine: a square of four, its last quarter a square of four again.
MARK = """<svg viewBox="0 0 32 32" aria-hidden="true">
<rect x="1" y="1" width="14" height="14" rx="3"/>
<rect x="17" y="1" width="14" height="14" rx="3" opacity=".55"/>
<rect x="1" y="17" width="14" height="14" rx="3" opacity=".3"/>
<rect x="17" y="17" width="6" height="6" rx="2"/>
<rect x="25" y="17" width="6" height="6" rx="2" opacity=".55"/>
<rect x="17" y="25" width="6" height="6" rx="2" opacity=".3"/>
<rect x="25" y="25" width="6" height="6" rx="2" opacity=".15"/></svg>"""


def build(chat: Chat, examples: Sequence[Example], refiner: SamRefiner | None = None) -> gr.Blocks:
    """The whole page around one loaded model, ready for `launch(**launch_options())`.

    refiner: what sharpens masks for those who switch it on.
    """
    with gr.Blocks(
        title="HiMTok chat", analytics_enabled=False, fill_width=True, delete_cache=UPLOADS
    ) as page:
        state = gr.State(None, delete_callback=_forget)
        gr.HTML(
            f"<header><h1>{MARK}HiMTok</h1>"
            "<p>Ask about a picture. The answer comes as text, boxes and masks.</p>"
            f'<span class="model" title="The loaded model">{escape(chat.name)}</span></header>',
            elem_id="header", apply_default_css=False, js_on_load=None,
        )
        chat_tab.build(chat, examples, state, refiner)
        # Set by an event and not as the component's value: only then is the callback above called in the end.
        arrived = page.load(lambda: Visitor(chat, refiner), None, state, show_progress="hidden")
        arrived.then(None, js="() => { document.body.classList.add('ready'); }")
    page.queue(max_size=MAX_QUEUE)
    return page


def launch_options() -> dict[str, object]:
    """Keyword arguments for `gr.Blocks.launch` that belong to the page and not to where it runs."""
    return {
        "theme": theme(),
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
        "footer_links": [],
        "run_history": False,  # would keep visitors' pictures in the browser
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_VISITORS,
        "ssr_mode": False,
    }


def theme() -> gr.themes.Base:
    """Greys, and fonts that ship with Gradio: colour is left to the objects, and nothing is fetched."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.neutral,
        secondary_hue=gr.themes.colors.neutral,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        # Gradio's copies of the 600 weight lack letters; those of the 700 are whole.
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    )


def _forget(visitor: Visitor | None) -> None:
    if visitor is not None:
        visitor.close()
