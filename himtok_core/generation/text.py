"""Token ids -> text while they come, one id at a time.

Knows how a fast tokenizer spells its ids. The pieces, joined, are exactly the text that was generated:
special tokens are spelled out, no space is put around them, and a character that needs several tokens comes
when it is complete. What the text means is `markup`'s work.
"""

import codecs
import re

from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """The text of one reply, growing by `feed`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._special = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
        # Some decoders drop the space before the first word of a text. Every stretch is therefore decoded
        # behind the same other word, which is cut off again.
        self._anchor = tokenizer.encode("a", add_special_tokens=False)
        self._anchor_length = len(self._decode(self._anchor))
        self._stretch: list[int] = []  # ordinary ids since the last special one
        self._given = 0  # characters of the stretch that were handed out
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that this token completes, "" if a character is still unfinished."""
        if token in self._special:
            return self.close() + self._special[token]
        byte = _BYTE.fullmatch(self._tokenizer.convert_ids_to_tokens(token))
        if byte:
            return self._close_stretch() + self._bytes.decode(bytes([int(byte[1], 16)]))
        before = self._close_bytes()
        self._stretch.append(token)
        text = self._decode(self._anchor + self._stretch)[self._anchor_length :].rstrip(_UNFINISHED)
        piece, self._given = text[self._given :], max(self._given, len(text))
        return before + piece

    def close(self) -> str:
        """What is left when no more tokens come; an unfinished character becomes U+FFFD."""
        return self._close_stretch() + self._close_bytes()

    def _close_stretch(self) -> str:
        text = self._decode(self._anchor + self._stretch)[self._anchor_length :] if self._stretch else ""
        piece = text[self._given :]
        self._stretch, self._given = [], 0
        return piece

    def _close_bytes(self) -> str:
        piece = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return piece

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
