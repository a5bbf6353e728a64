"""The language model's step over one token, with key-value buffers of fixed size.

Every address and shape stays the same from token to token, so a GPU records the step once and replays it
without Python; what is left is little more than reading the weights. The buffers are shared: they hold one
conversation at a time (`take`), which gets back what it has read when its reply is done or another one wants
them (`put_back`), and keeps a cache of just its length meanwhile. Knows layers and buffers; which token comes
next, and who may call when, is `local`'s.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, LlamaModel, PreTrainedModel, Qwen2Model

SHORTEST = 256  # tokens that the buffers hold at least; they grow by doubling


class StaticStep:
    """One token at a time through a language model that `suits`.

    limit: positions that it serves; beyond them the angles depend on the length (dynamic rope scaling).
    taken: the cache whose keys and values lie in the buffers, None if they are free. length: how many tokens
    they hold.
    """

    def __init__(self, language_model: PreTrainedModel):
        config, weight = language_model.config, language_model.embed_tokens.weight
        self.limit = config.max_position_embeddings - 1
        self.taken: DynamicCache | None = None
        self.length = 0
        self._model, self._address = language_model, weight.data_ptr()
        self._device, self._dtype = weight.device, weight.dtype
        self._keys: list[torch.Tensor] = []  # (1, key-value heads, capacity, head_dim) for each layer
        self._values: list[torch.Tensor] = []
        self._cosines = self._sines = torch.empty(0, device=self._device)  # (capacity, head_dim)
        self._token = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._hidden = torch.zeros(1, config.hidden_size, dtype=self._dtype, device=self._device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}  # by the places that attention looks at
        self._records = self._device.type == "cuda"

    @staticmethod
    def suits(language_model: PreTrainedModel) -> bool:
        """Whether this class computes what `language_model` does.

        That is Llama and Qwen2 without sliding windows, unquantised and as a whole on one processor or GPU.
        """
        weights = list(language_model.parameters())
        return (
            isinstance(language_model, LlamaModel | Qwen2Model)
            and language_model.config.hidden_act == "silu"
            and not any(part.self_attn.__dict__.get("sliding_window") for part in language_model.layers)
            and len({(weight.device, weight.dtype) for weight in weights}) == 1
            and weights[0].is_floating_point()
            and weights[0].device.type in ("cpu", "cuda")
            and not any(hasattr(part, "_hf_hook") for part in language_model.modules())
        )

    @property
    def moved(self) -> bool:
        """Whether the weights are no longer where they were, so that another StaticStep has to be made."""
        return self._model.embed_tokens.weight.data_ptr() != self._address

    def take(self, cache: DynamicCache) -> None:
        """Copies a conversation's keys and values into the buffers, unless they are there already.

        What another conversation has there goes back into its own cache first.
        """
        if self.taken is cache:
            return
        self.put_back()
        length = cache.get_seq_length()
        self._reserve(length + 1)
        for layer, keys, values in zip(cache.layers, self._keys, self._values):
            keys[:, :, :length].copy_(layer.keys)
            values[:, :, :length].copy_(layer.values)
        self.taken, self.length = cache, length

    def put_back(self) -> None:
        """Adds what the buffers have learned to the cache that was taken, and frees them."""
        if self.taken is None:
            return
        for index, (keys, values) in enumerate(zip(self._keys, self._values)):
            known = self.taken.get_seq_length(index)  # of each layer: memory may have run out at one of them
            self.taken.update(keys[:, :, known : self.length], values[:, :, known : self.length], index)
        self.drop()

    def drop(self) -> None:
        """Frees the buffers; what was learned since `take` is lost."""
        self.taken, self.length = None, 0

    def __call__(self, token: int) -> torch.Tensor:
        """Reads one more token of the cache that was taken -> its last hidden state (hidden size,)."""
        self._reserve(self.length + 1)
        self._token.fill_(token)  # a number in a kernel's arguments: nothing waits for the device
        self._position.fill_(self.length)
        seen = _power_of_two(self.length + 1)
        if self._records:
            self._replay(seen)
        else:
            self._compute(seen)
        self.length += 1
        return self._hidden[0].clone()  # the next step, perhaps another conversation's, writes over it

    def _replay(self, seen: int) -> None:
        """`_compute` on a GPU, as a graph of kernels that is recorded the first time."""
        with torch.cuda.device(self._device):
            if seen not in self._graphs:
                try:
                    self._graphs[seen] = self._record(seen)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    warnings.warn(
                        f"The GPU cannot record a step, so tokens take longer: {error}", stacklevel=2
                    )
                    self._records = False
                    self._compute(seen)
                    return
            self._graphs[seen].replay()

    def _record(self, seen: int) -> torch.cuda.CUDAGraph:
        """The graph. Running a step again for the same token and position changes nothing."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._compute(seen)  # libraries choose kernels and allocate before anything is recorded
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on calling the device meanwhile.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
            self._compute(seen)
        return graph

    def _reserve(self, length: int) -> None:
        """Makes the buffers hold `length` tokens, keeping what is in them."""
        capacity = self._keys[0].shape[2] if self._keys else 0
        if length <= capacity:
            return
        taken = self.taken
        self.put_back()
        self._graphs.clear()  # they know the old addresses
        self._keys, self._values = [], []
        config, capacity = self._model.config, _power_of_two(length)
        attention = self._model.layers[0].self_attn
        shape = 1, config.num_key_value_heads, capacity, attention.head_dim
        keys, values = (
            [torch.zeros(shape, dtype=self._dtype, device=self._device) for _ in self._model.layers]
            for _ in range(2)
        )
        positions = torch.arange(min(capacity, self.limit), device=self._device)[None]
        cosines, sines = self._model.rotary_emb(self._hidden, positions)
        self._cosines, self._sines = cosines[0], _signed(sines[0])
        self._keys, self._values = keys, values
        if taken is not None:
            self.take(taken)

    def _compute(self, seen: int) -> None:
        """Reads the token at its position: `_token`, `_position` -> `_hidden`, `_keys`, `_values`.

        seen: attention looks at the first `seen` places of the buffers, of which those behind the position
        count nothing.
        """
        positions = torch.arange(seen, device=self._device)
        unread = torch.zeros(1, 1, 1, seen, dtype=self._dtype, device=self._device)
        unread = unread.masked_fill(positions > self._position, -torch.inf)
        cosine, sine = self._cosines[self._position], self._sines[self._position]  # (1, head_dim)
        x = self._model.embed_tokens(self._token)  # (1, D)
        for layer, keys, values in zip(self._model.layers, self._keys, self._values):
            attention, mlp = layer.self_attn, layer.mlp
            y = _norm(layer.input_layernorm, x)
            heads = -1, 1, attention.head_dim  # (heads, 1, head_dim): one token
            query = _rotate(attention.q_proj(y).view(heads), cosine, sine)
            key = _rotate(attention.k_proj(y).view(heads), cosine, sine)
            keys.index_copy_(2, self._position, key[None])
            values.index_copy_(2, self._position, attention.v_proj(y).view(heads)[None])
            # The query heads of one key-value head are the rows of one small matrix.
            query = query.view(1, keys.shape[1], -1, attention.head_dim)
            y = F.scaled_dot_product_attention(
                query, keys[:, :, :seen], values[:, :, :seen], attn_mask=unread, scale=attention.scaling
            )
            x = x + attention.o_proj(y.reshape(1, -1))
            y = _norm(layer.post_attention_layernorm, x)
            x = x + mlp.down_proj(F.silu(mlp.gate_proj(y)) * mlp.up_proj(y))
        self._hidden.copy_(_norm(self._model.norm, x))


def _norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The layer's RMSNorm, as one kernel."""
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotate(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """heads (..., head_dim), turned by the angles of `cosine` and the `_signed` sine."""
    return torch.addcmul(heads * cosine, heads.roll(heads.shape[-1] // 2, -1), sine)


def _signed(sine: torch.Tensor) -> torch.Tensor:
    """(T, head_dim), the first half negated: rolling by half a head then needs no sign of its own."""
    first, second = sine.chunk(2, dim=-1)
    return torch.cat([-first, second], dim=-1)


def _power_of_two(length: int) -> int:
    """The buffer size for `length` tokens."""
    return max(SHORTEST, 1 << (length - 1).bit_length())
