#!/usr/bin/env python3
"""Record the CPU tensor allocations of real PyTorch models as replayable traces.

Recording needs PyTorch, torchvision and transformers; checking and listing
need nothing beyond Python 3.9:

    pip install torch torchvision transformers

    python3 bench/record_torch.py --list
    python3 bench/record_torch.py --model resnet50_train --steps 4 \\
        --out bench/traces/resnet50_train.trace
    python3 bench/record_torch.py --check bench/traces/resnet50_train.trace

A trace is text, one event per line:

    a ID SIZE [ALIGN]   allocate SIZE bytes (ALIGN, if given, a power of two)
    f ID                free the allocation named ID
    s                   a step ends
    # ...               comment

IDs count up from 0 in order of allocation and are never reused. What is still
live at the end of the file was not freed while recording.

How the recording works. One torch.profiler session with profile_memory=True
covers everything from before the model is built to the end of the last step.
Its event tree holds every allocation and every free made through PyTorch's CPU
allocator, with address, exact size in bytes and the allocator's own running
total. Empty record_function ranges mark where setup and each step end, on the
same clock. Addresses become IDs by pairing each free with the allocation that
last returned its address. The running total is compared with ours after every
event, so a lost or misordered event stops the recording instead of ending up
in the trace.

What is not in a trace: zero-size allocations (PyTorch does not report them, and
they occupy nothing), the freeing of blocks allocated before the recording
(PyTorch leaves these out and warns; what it does report is dropped and counted
in the header), and memory that the libraries below PyTorch take for themselves,
such as the scratch buffers of oneDNN. PyTorch aligns every CPU block to 64
bytes; the traces leave ALIGN out.

All models have random weights and random inputs: sizes, order and lifetimes of
the allocations are those of the real architectures, the numbers computed are
not meaningful.
"""

import argparse
import importlib
import platform
import random
import re
import shlex
import sys
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, Iterator, List, Tuple

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:  # --check and --list work without it
    torch = None

SETUP_MARK = "record_torch.setup_done"
STEP_MARK = "record_torch.step_done"
NUMBER = re.compile("[0-9]{1,19}")


# --------------------------------------------------------------------------
# Models. Each is a generator that builds the model, yields it once, and then
# yields after every step. Whatever a step needs only for itself is dropped by
# the time it yields, except gradients, which live until the next step's
# zero_grad() as in an ordinary training loop.
# --------------------------------------------------------------------------


def train_step(model, optimizer, loss_of):
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def resnet50_train(batch: int, rng: random.Random) -> Iterator:
    from torchvision.models import resnet50

    model = resnet50(weights=None).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def loss_of(net):
        images = torch.randn(batch, 3, 224, 224)
        labels = torch.randint(1000, (batch,))
        return F.cross_entropy(net(images), labels)

    yield model
    while True:
        train_step(model, optimizer, loss_of)
        yield


def transformer_train_varlen(batch: int, rng: random.Random) -> Iterator:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=6,
        n_embd=512,
        n_head=8,
        vocab_size=16384,
        n_positions=512,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def loss_of(net):
        tokens = torch.randint(config.vocab_size, (batch, rng.randint(32, 512)))
        return net(input_ids=tokens, labels=tokens).loss

    yield model
    while True:
        train_step(model, optimizer, loss_of)
        yield


def moe_train(batch: int, rng: random.Random) -> Iterator:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        num_hidden_layers=4,
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=8,
        num_key_value_heads=4,
        num_local_experts=8,
        num_experts_per_tok=2,
        vocab_size=8192,
        max_position_embeddings=256,
        # One matrix product per expert that was chosen, over the tokens that chose it.
        experts_implementation="eager",
    )
    model = MixtralForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def loss_of(net):
        tokens = torch.randint(config.vocab_size, (batch, 128))
        return net(input_ids=tokens, labels=tokens, use_cache=False).loss

    yield model
    while True:
        train_step(model, optimizer, loss_of)
        yield


def decode_kv(batch: int, rng: random.Random) -> Iterator:
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=6,
        hidden_size=512,
        intermediate_size=1408,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=16384,
        max_position_embeddings=1024,
    )
    model = LlamaForCausalLM(config).eval()
    cache = DynamicCache(config=config)
    tokens = torch.randint(config.vocab_size, (batch, 96))

    @torch.inference_mode()
    def next_tokens(tokens):
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        return torch.multinomial(torch.softmax(logits[:, -1] / 0.8, dim=-1), 1)

    yield model
    while True:
        tokens = next_tokens(tokens)
        yield


def bert_serve_varlen(batch: int, rng: random.Random) -> Iterator:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        num_hidden_layers=6,
        hidden_size=384,
        intermediate_size=1536,
        num_attention_heads=6,
        vocab_size=30522,
    )
    model = BertForSequenceClassification(config).eval()

    @torch.inference_mode()
    def answer():
        lengths = [rng.randint(8, 256) for _ in range(rng.randint(1, batch))]
        tokens = torch.randint(config.vocab_size, (len(lengths), max(lengths)))
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return model(input_ids=tokens, attention_mask=mask.long()).logits.argmax(-1)

    yield model
    while True:
        answer()
        yield


def random_tree(rng: random.Random, first: int, leaves: int):
    """A binary tree over leaves first, first + 1, ...: an index or a pair of trees."""
    if leaves == 1:
        return first
    left = rng.randint(1, leaves - 1)
    return random_tree(rng, first, left), random_tree(rng, first + left, leaves - left)


def tree_lstm_state(net, embedded, tree, node_states):
    """(hidden, cell) of a subtree; appends every node's hidden state to node_states."""
    if isinstance(tree, int):
        i, o, g = net["leaf"](embedded[tree]).chunk(3)
        cell = torch.sigmoid(i) * torch.tanh(g)
    else:
        left_hidden, left_cell = tree_lstm_state(net, embedded, tree[0], node_states)
        right_hidden, right_cell = tree_lstm_state(net, embedded, tree[1], node_states)
        i, fl, fr, o, g = net["node"](torch.cat((left_hidden, right_hidden))).chunk(5)
        cell = torch.sigmoid(i) * torch.tanh(g) + torch.sigmoid(fl) * left_cell + torch.sigmoid(fr) * right_cell
    hidden = torch.sigmoid(o) * torch.tanh(cell)
    node_states.append(hidden)
    return hidden, cell


def treelstm_train(batch: int, rng: random.Random) -> Iterator:
    vocabulary, embedding, width, classes = 8192, 128, 160, 5
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(vocabulary, embedding),
            "leaf": nn.Linear(embedding, 3 * width),
            "node": nn.Linear(2 * width, 5 * width),
            "classify": nn.Linear(width, classes),
        }
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss_of(net):
        losses = []
        for _ in range(batch):
            leaves = rng.randint(3, 24)
            embedded = net["embedding"](torch.randint(vocabulary, (leaves,)))
            node_states = []
            tree_lstm_state(net, embedded, random_tree(rng, 0, leaves), node_states)
            labels = torch.randint(classes, (len(node_states),))
            losses.append(F.cross_entropy(net["classify"](torch.stack(node_states)), labels))
        return torch.stack(losses).mean()

    yield model
    while True:
        train_step(model, optimizer, loss_of)
        yield


@dataclass(frozen=True)
class Model:
    run: Callable[[int, random.Random], Iterator]
    batch: int
    steps: int
    what: str
    # Imported before the recording starts, so that what they allocate stays out of it.
    modules: Tuple[str, ...] = ()


MODELS = {
    model.run.__name__: model
    for model in (
        Model(
            resnet50_train,
            batch=8,
            steps=5,
            what="ResNet-50 training, SGD with momentum, 224x224 images; a step is an optimizer step",
            modules=("torchvision.models.resnet",),
        ),
        Model(
            transformer_train_varlen,
            batch=4,
            steps=8,
            what="GPT-2 style transformer (6 layers, width 512, 16384 words) training, AdamW, "
            "sequence length drawn from 32..512 for every step; a step is an optimizer step",
            modules=("transformers.models.gpt2.modeling_gpt2",),
        ),
        Model(
            decode_kv,
            batch=4,
            steps=64,
            what="Llama style transformer (6 layers, width 512, 4 of 8 heads for keys and values) "
            "generating after a 96 token prompt, KV cache grown by concatenation; a step is one "
            "generated token per sequence, the first one includes the prompt",
            modules=("transformers.models.llama.modeling_llama",),
        ),
        Model(
            bert_serve_varlen,
            batch=8,
            steps=24,
            what="BERT style encoder (6 layers, width 384) answering requests of 1..batch sequences "
            "of 8..256 tokens, padded to the longest; a step is one request",
            modules=("transformers.models.bert.modeling_bert",),
        ),
        Model(
            treelstm_train,
            batch=4,
            steps=8,
            what="binary Tree-LSTM (width 160) training, Adam, random trees of 3..24 leaves evaluated "
            "node by node; a step is an optimizer step over a batch of trees",
        ),
        Model(
            moe_train,
            batch=4,
            steps=6,
            what="Mixtral style mixture of experts (4 layers, width 256, 2 of 8 experts per token) "
            "training, AdamW, 128 tokens per sequence, expert batches sized by the routing; a step "
            "is an optimizer step",
            modules=("transformers.models.mixtral.modeling_mixtral",),
        ),
    )
}


# --------------------------------------------------------------------------
# Checking
# --------------------------------------------------------------------------


class TraceError(Exception):
    pass


def require(condition: bool, message: str) -> None:
    if not condition:
        raise TraceError(message)


@dataclass
class Step:
    allocations: int = 0
    frees: int = 0
    allocated_bytes: int = 0
    peak_bytes: int = 0
    end_bytes: int = 0


@dataclass
class Summary:
    """What a trace does; apply() takes its events one by one and rejects wrong ones."""

    steps: List[Step] = field(default_factory=list)
    step: Step = field(default_factory=Step)
    allocations: int = 0
    frees: int = 0
    largest: int = 0
    peak_bytes: int = 0
    live_bytes: int = 0
    live: Dict[int, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        return self.allocations + self.frees + len(self.steps)

    def apply(self, kind: str, operands: List[int]) -> None:
        if kind == "a":
            require(len(operands) in (2, 3), "expected a ID SIZE [ALIGN]")
            self.allocate(*operands)
        elif kind == "f":
            require(len(operands) == 1, "expected f ID")
            self.free(*operands)
        elif kind == "s":
            require(not operands, "expected s alone")
            self.end_step()
        else:
            raise TraceError("unknown event")

    def allocate(self, ident: int, size: int, align: int = 1) -> None:
        require(ident == self.allocations, f"expected ID {self.allocations}")
        require(0 < size < 2**63, "size must be from 1 to 2^63 - 1")
        require(align > 0 and align & (align - 1) == 0, "alignment must be a power of two")
        self.live[ident] = size
        self.live_bytes += size
        self.allocations += 1
        self.largest = max(self.largest, size)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.step.allocations += 1
        self.step.allocated_bytes += size
        self.step.peak_bytes = max(self.step.peak_bytes, self.live_bytes)

    def free(self, ident: int) -> None:
        require(ident in self.live, "ID is not live")
        self.live_bytes -= self.live.pop(ident)
        self.frees += 1
        self.step.frees += 1

    def end_step(self) -> None:
        self.step.end_bytes = self.live_bytes
        self.steps.append(self.step)
        self.step = Step(peak_bytes=self.live_bytes)


def check_trace(lines: Iterable[str]) -> Summary:
    """Validate a trace given as lines and sum it up; raises TraceError with the line number."""
    summary = Summary()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        kind, *operands = line.split() or [""]
        try:
            require(all(NUMBER.fullmatch(word) for word in operands), "operands must be non-negative integers")
            summary.apply(kind, [int(word) for word in operands])
        except TraceError as error:
            raise TraceError(f"line {number}: {error}: {line.rstrip()!r}") from None
    return summary


def print_summary(name: str, summary: Summary) -> None:
    print(
        f"{name}: ok, {len(summary.steps)} steps, {summary.events} events "
        f"({summary.allocations} allocations, {summary.frees} frees), "
        f"peak live {summary.peak_bytes} bytes, largest {summary.largest} bytes, "
        f"live at the end {summary.live_bytes} bytes in {len(summary.live)} blocks"
    )
    print(f"{'step':>6} {'allocs':>8} {'frees':>8} {'allocated':>14} {'peak live':>14} {'live at end':>14}")
    for number, step in enumerate(summary.steps, 1):
        print(
            f"{number:6} {step.allocations:8} {step.frees:8} "
            f"{step.allocated_bytes:14} {step.peak_bytes:14} {step.end_bytes:14}"
        )


# --------------------------------------------------------------------------
# Recording
# --------------------------------------------------------------------------


def mark(name: str) -> None:
    with torch.profiler.record_function(name):
        pass


def profiled_events(profiler) -> List:
    """The allocations and marks of a finished profiler session, in order of time."""
    allocation = torch._C._profiler._EventType.Allocation
    events = []
    pending = list(reversed(profiler.profiler.kineto_results.experimental_event_tree()))
    while pending:
        event = pending.pop()
        if event.tag == allocation:
            if event.extra_fields.device.type == "cpu":
                events.append(event)
        elif event.name in (SETUP_MARK, STEP_MARK):
            events.append(event)
        pending.extend(reversed(event.children))
    events.sort(key=lambda event: event.start_time_ns)
    return events


@dataclass
class Recording:
    lines: List[str]
    setup_bytes: int
    dropped_frees: int


def translate(events) -> Recording:
    """Turn profiler events into trace lines, up to and including the last step mark."""
    recording = Recording(lines=[], setup_bytes=0, dropped_frees=0)
    allocation = torch._C._profiler._EventType.Allocation
    live = {}  # address -> (ID, size)
    live_bytes = 0
    before = None  # bytes that the allocator counted before our first event
    next_id = 0
    end = 0
    for event in events:
        if event.tag == allocation:
            fields = event.extra_fields
            address, size = fields.ptr, fields.alloc_size
            if before is None:
                before = fields.total_allocated - size
            if size > 0:
                if address in live:
                    raise TraceError(f"address {address:#x} allocated twice without a free in between")
                live[address] = next_id, size
                recording.lines.append(f"a {next_id} {size}")
                next_id += 1
            elif address in live:
                ident, allocated = live.pop(address)
                if allocated != -size:
                    raise TraceError(f"allocation {ident} has {allocated} bytes but its free has {-size}")
                recording.lines.append(f"f {ident}")
            else:
                recording.dropped_frees += 1
            live_bytes += size
            if before + live_bytes != fields.total_allocated:
                raise TraceError(
                    f"the allocator counts {fields.total_allocated - before} live bytes, "
                    f"the events add up to {live_bytes}"
                )
        elif event.name == STEP_MARK:
            recording.lines.append("s")
            end = len(recording.lines)
        else:
            recording.setup_bytes = live_bytes
            recording.lines.append("# setup ends here, the first step goes on")
    del recording.lines[end:]
    return recording


def record(model_name: str, steps: int, batch: int, seed: int, threads: int, out: str) -> Summary:
    model = MODELS[model_name]
    for module in model.modules:
        importlib.import_module(module)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    run = model.run(batch, random.Random(seed))

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        network = next(run)
        mark(SETUP_MARK)
        for _ in range(steps):
            next(run)
            mark(STEP_MARK)
    recording = translate(profiled_events(profiler))

    summary = check_trace(recording.lines)
    if len(summary.steps) != steps:
        raise TraceError(f"{steps} steps were run but {len(summary.steps)} recorded")
    parameters = list(network.parameters())
    parameter_bytes = sum(p.numel() * p.element_size() for p in parameters)
    if recording.setup_bytes < parameter_bytes:
        raise TraceError(f"parameters take {parameter_bytes} bytes, only {recording.setup_bytes} live after setup")

    command = ["python3", "bench/record_torch.py", "--model", model_name, "--steps", str(steps)]
    command += ["--batch", str(batch), "--seed", str(seed), "--threads", str(threads), "--out", out]
    versions = [f"torch {torch.__version__}"]
    for package in sorted({module.split(".")[0] for module in model.modules}):
        versions.append(f"{package} {importlib.import_module(package).__version__}")
    header = [
        f"{model_name}: {model.what}",
        f"batch {batch}, {steps} steps, seed {seed}, threads {threads}, random weights and inputs",
        f"recorded on CPU ({platform.machine()}) with " + ", ".join(versions),
        "command: " + shlex.join(command),
        f"{summary.events} events: {summary.allocations} allocations, {summary.frees} frees, {steps} step ends",
        f"peak live {summary.peak_bytes} bytes, largest allocation {summary.largest} bytes",
        f"parameters {parameter_bytes} bytes in {len(parameters)} tensors, recorded as they were created",
        f"live after setup {recording.setup_bytes} bytes, at the end {summary.live_bytes} bytes "
        f"in {len(summary.live)} blocks",
        f"frees of blocks older than the recording, dropped: {recording.dropped_frees}",
        "zero-size allocations and the scratch memory of libraries below PyTorch are not in the trace",
    ]
    with open(out, "w", encoding="ascii", newline="\n") as file:
        file.writelines(f"# {line}\n" for line in header)
        file.writelines(f"{line}\n" for line in recording.lines)
    return summary


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--model", choices=sorted(MODELS), help="record this model")
    action.add_argument("--list", action="store_true", help="list the models")
    action.add_argument("--check", metavar="FILE", nargs="+", help="validate traces and sum them up")
    parser.add_argument("--out", metavar="FILE", help="trace to write, required with --model")
    parser.add_argument("--steps", type=positive, help="steps to record (default: depends on the model)")
    parser.add_argument("--batch", type=positive, help="batch size (default: depends on the model)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights, inputs and shapes (default 1)")
    parser.add_argument("--threads", type=positive, default=1, help="PyTorch compute threads (default 1)")
    arguments = parser.parse_args()
    if arguments.model and not arguments.out:
        parser.error("--model needs --out")
    if arguments.model and torch is None:
        parser.error("recording needs PyTorch: pip install torch torchvision transformers")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        for name, model in MODELS.items():
            print(f"{name} (batch {model.batch}, steps {model.steps}): {model.what}")
        return 0
    try:
        if arguments.check:
            for name in arguments.check:
                try:
                    with open(name, encoding="ascii", errors="replace") as file:
                        print_summary(name, check_trace(file))
                except TraceError as error:
                    raise TraceError(f"{name}: {error}") from None
        else:
            model = MODELS[arguments.model]
            summary = record(
                arguments.model,
                arguments.steps or model.steps,
                arguments.batch or model.batch,
                arguments.seed,
                arguments.threads,
                arguments.out,
            )
            print_summary(arguments.out, summary)
    except (TraceError, OSError) as error:
        print(f"record_torch.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
