import io
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

import forerun
from forerun.cli import common, run
from forerun.cli.common import printable


@pytest.fixture
def cli(fake, model_file, capfd, monkeypatch):
    """Runs the command line; returns (exit code, stdout, stderr)."""

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def test_generate_streams_the_text_and_can_show_stats(cli, model_file):
    code, out, err = cli("generate", model_file, "x", "-n", 5, "--stats")
    assert (code, out) == (0, "abcde\n")
    assert "5 tokens in 2 steps" in err


def test_generate_reads_a_prompt_from_stdin(cli, model_file, fake):
    assert cli("generate", model_file, "-", stdin="from a pipe")[0] == 0
    assert fake.made[-1].calls[0]["prompt"] == "from a pipe"


def test_generate_passes_every_option_on(cli, model_file, fake):
    code, out, _ = cli(
        *("generate", model_file, "x", "--system", "Be brief.", "--draft", "ngram", "--json"),
        *("--threads", 1, "--temperature", 0.5, "--top-k", 3, "--top-p", 0.9, "--min-p", 0.1),
        *("--repetition-penalty", 1.1, "--frequency-penalty", 0.2, "--presence-penalty", 0.3),
        *("--seed", 7, "--stop", "p", "--stop", "q", "-n", 3, "--kv-type", "q8_0"),
    )
    assert code == 0
    assert json.loads(out)["text"] == "abc"
    call = fake.made[-1].calls[0]
    assert bytes(call["prompt"]) == b"<|system|>Be brief.$<|user|>x$<|assistant|>"
    assert (call["seed"], call["stop"], call["max"]) == (7, ["p", "q"], 3)
    assert call["sampling"] == {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.3,
        "logit_bias": {},
    }
    assert fake.made[-1].draft == "ngram"
    assert fake.made[-1].info["threads"] == 1
    assert fake.made[-1].options["kv_type"] == "q8_0"


ENGINE = ("--draft", "recycle", "--policy", "chain", "--verify", "rejection", "--device", "cuda")
ENGINE += ("--option", "recycle.x=a=b", "--option", "rejection.y=2", "--threads", 1, "--context", 1024)


@pytest.mark.parametrize("command", ["generate", "chat", "bench"])
def test_the_commands_share_the_options_of_the_engine(cli, model_file, fake, command):
    assert cli(command, model_file, *(["x"] if command == "generate" else []), *ENGINE)[0] == 0
    if command == "bench":  # its plain side takes the machine's options only
        assert fake.made[0].options["device"] == "cuda"
        return
    engine = fake.made[-1]
    wanted = {"policy": "chain", "verify": "rejection", "device": "cuda"}
    assert {name: engine.options[name] for name in wanted} == wanted
    assert engine.options["method_options"] == {"recycle.x": "a=b", "rejection.y": "2"}
    assert (engine.draft, engine.info["threads"]) == ("recycle", 1)


def test_methods_are_listed_with_what_they_promise(cli):
    code, out, _ = cli("methods")
    assert code == 0
    found = json.loads(cli("methods", "--json")[1])
    assert [*found] == ["drafters", "policies", "verifiers"]
    for methods in found.values():
        for method in methods:
            assert method["name"] in out
    names = {kind: [method["name"] for method in methods] for kind, methods in found.items()}
    assert names["drafters"] == [method.name for method in forerun.drafters()]
    assert names["verifiers"] == [method.name for method in forerun.verifiers()]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["generate", "no/such.gguf", "x"], 1, "no such file"),
        (["generate", "no-such-name", "x"], 2, "forerun pull NAME"),
        (["generate", "MODEL", "x", "--temperature", "nan"], 2, "temperature"),
        (["generate", "MODEL", "x", "--top-k", "many"], 2, "--top-k"),
        (["generate", "MODEL", "x", "--draft", "bogus"], 2, "bogus"),
        (["generate", "MODEL", "x", "--max-tokens", "-1"], 2, "max_tokens"),
        (["generate", "MODEL"], 2, "prompt"),
        (["frobnicate"], 2, "frobnicate"),
        (["generate", "--frob"], 2, "frob"),
        (["generate", "MODEL", "x", "--option", "ngram.x"], 2, "NAME.KEY=VALUE"),
        (["generate", "MODEL", "x", "--option", "x=1"], 2, "NAME.KEY=VALUE"),
        (["chat", "MODEL", "--option", "a.b=1", "--option", "a.b=2"], 2, "twice"),
        (["compare", "MODEL", "--out", "x"], 2, "--prompts"),
        (["compare", "MODEL", "--out", "x", "--prompts", "missing.jsonl", "--draft", "ngram,"], 2, "commas"),
        (["compare", "MODEL", "--out", "x", "--prompts", "missing.jsonl", "--budgets", "many"], 2, "--budgets"),
        (["compare", "MODEL", "--out", "x", "--prompts", "missing.jsonl"], 1, "missing.jsonl"),
        (["pull"], 2, "name a model"),
        (["pull", "no-such-name"], 2, "known names"),
        (["inspect", "no-such.gguf"], 1, "no such file"),
        (["bench", "MODEL", "--prompts", "missing.jsonl"], 1, "missing.jsonl"),
        (["bench", "MODEL", "--tokens", "0"], 2, "tokens"),
        (["bench", "MODEL", "--context", "256"], 2, "--context: expected at least 512"),
        (["layers", "MODEL", "--parallel", "2", "--skip", "3"], 2, "--skip"),
        (["bench", "MODEL", "--json", "no/such/folder/x.json"], 2, "no such folder"),
        (["bench", "MODEL", "--json", "/"], 2, "--json: / is a folder"),
        (["bench", "MODEL", "--prompts", "LATIN"], 2, "latin.txt: not valid UTF-8 at byte 3"),
        (["compare", "MODEL", "--out", "x", "--prompts", "LATIN", "--budgets", "4,-1"], 2, "--budgets"),
        (["generate", "MODEL", "caf\udce9"], 2, "prompt: not valid UTF-8"),
        (["generate", "MODEL", "x", "-n", str(10**20)], 2, "max_tokens"),
        (["generate", "MODEL", "x", "--logprobs", "2"], 2, "--json"),
        (["plan", "MODEL", "--save", "/"], 2, "--save: / is a folder"),
        (["plan", "MODEL", "--context", str(10**20)], 2, "context"),
        (["layers", "MODEL", "--text", "missing.txt"], 1, "missing.txt: no such file"),
        (["datastore", "build", "x.store", "missing.txt", "--tokenizer", "no-such-name"], 2, "no-such-name"),
        (["convert-draft", "missing", "x.gguf", "--target", "MODEL"], 1, "missing: no such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cli, model_file, tmp_path, arguments, code, text):
    latin = tmp_path / "latin.txt"
    latin.write_bytes("caf\u00e9".encode("latin-1"))
    places = {"MODEL": model_file, "LATIN": str(latin)}
    found, _, err = cli(*[places.get(word, word) for word in arguments])
    assert found == code
    assert err.startswith("forerun: ")
    assert len(err.splitlines()) == 1
    assert text.lower() in err.lower()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (forerun.ModelFileError("bad magic"), 1),
        (NotImplementedError("unsupported architecture"), 1),
        (MemoryError(), 1),
        (RuntimeError("device"), 1),
        (ValueError("argument"), 2),
    ],
)
def test_errors_of_the_engine_become_exit_codes(cli, model_file, fake, monkeypatch, error, code):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(fake, "__init__", refuse)
    found, _, err = cli("generate", model_file, "x")
    assert found == code
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


@pytest.fixture
def ctrl_c(monkeypatch):
    """Presses Ctrl-C once, when three pieces of text have been shown."""
    shown = []

    def show(piece, write=common.show):
        write(piece)
        shown.append(piece)
        if len(shown) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(common, "show", show)


def test_ctrl_c_exits_130(cli, model_file, fake, ctrl_c):
    fake.step_seconds = 0.005
    code, out, _ = cli("generate", model_file, "x", "-n", 100_000)
    assert code == 130
    assert out.startswith("abc")
    assert fake.made[-1].running == 0


def test_chat_keeps_the_history_and_resets_it(cli, model_file, fake):
    lines = "one\ntwo\n/reset\nthree\n/what\n\n/exit\nfour\n"
    code, out, err = cli("chat", model_file, "-n", 2, "--system", "S", stdin=lines)
    assert (code, out) == (0, "ab\nab\nab\n")
    prompts = [bytes(call["prompt"]) for call in fake.made[-1].calls]
    assert prompts == [
        b"<|system|>S$<|user|>one$<|assistant|>",
        b"<|system|>S$<|user|>one$<|assistant|>ab$<|user|>two$<|assistant|>",
        b"<|system|>S$<|user|>three$<|assistant|>",
    ]
    assert "unknown command /what" in err


def test_ctrl_c_in_a_chat_stops_the_answer_only(cli, model_file, fake, ctrl_c):
    fake.step_seconds = 0.005
    code, out, _ = cli("chat", model_file, "-n", 150, stdin="one\ntwo\n")
    assert code == 0
    first, second = out.splitlines()
    assert len(first) < 150 == len(second)
    # What was said before the interruption stays in the conversation.
    assert first.encode() in bytes(fake.made[-1].calls[1]["prompt"])


def test_a_question_that_fails_leaves_the_chat_going(cli, model_file, fake):
    fake.fails_at = 1
    code, _, err = cli("chat", model_file, stdin="one\ntwo\n")
    assert code == 0
    assert err.count("the device is gone") == 2
    assert b"one" not in bytes(fake.made[-1].calls[1]["prompt"])


def test_chat_needs_a_template(cli, model_file, fake):
    fake.template = ""
    code, _, err = cli("chat", model_file, stdin="one\n")
    assert code == 2
    assert "forerun generate" in err


def test_inspect_shows_what_is_inside_and_disarms_control_characters(cli, model_file):
    code, out, _ = cli("inspect", model_file, "--tensors")
    assert code == 0
    for text in ("GGUF v3", "unsupported architecture", "general.name", "token_embd", "4 x 8"):
        assert text in out
    assert "\x1b[2J" not in out
    report = json.loads(cli("inspect", model_file, "--json")[1])
    assert report["tensors"][0]["dtype"] == "Q4_1"


def test_printable_is_one_short_line():
    assert printable("a\nb\x1b") == "a\\nb\\x1b"
    assert len(printable(list(range(1000)))) == 80


def test_doctor_reports_the_machine(cli, cache):
    shown = cli("doctor")[1]
    assert "Abacus" in shown
    assert "Q4_K, Q8_0: beads up to 4 rows, then rods" in shown
    assert "F32: beads" in shown
    report = json.loads(cli("doctor", "--json")[1])
    assert report["cuda"] == {"available": False, "reason": "no driver"}
    assert report["products"][:2] == [
        {"type": "Q4_K", "up_to_rows": 4, "kernel": "beads"},
        {"type": "Q4_K", "up_to_rows": None, "kernel": "rods"},
    ]
    assert report["bandwidth_gbs"] == {"1": 1.0, "2": 2.0}


def test_pull_lists_what_it_knows(cli, cache):
    code, out, _ = cli("pull", "--list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["smollm2-135m"]["pulled"] is False
    assert rows["smollm2-135m"]["license"] == "Apache-2.0"
    assert "smollm2-135m" in cli("pull", "--list")[1]


@pytest.mark.parametrize(
    "command", ["generate", "chat", "inspect", "pull", "methods", "bench", "compare", "tree", "doctor", None]
)
def test_every_command_has_help(cli, command):
    code, out, _ = cli(*filter(None, [command, "--help"]))
    assert code == 0
    assert "Usage" in out


def test_the_version_is_shown(cli):
    assert cli("--version")[1].strip() == f"forerun {forerun.__version__}"


def test_a_closed_pipe_ends_quietly():
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-m", "forerun", "methods"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_are_empty(closed):
    command = f"'{sys.executable}' -m forerun methods --json {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bool(ended.stdout) == (closed == "2>&-")


def test_methods_are_readable_on_a_narrow_terminal_and_unbroken_in_a_pipe():
    def lines(**variables):
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | variables
        command = [sys.executable, "-m", "forerun", "methods"]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.splitlines()

    assert max(len(line) for line in lines(COLUMNS="60")) <= 60
    summaries = [
        method.summary for kind in (forerun.drafters, forerun.policies, forerun.verifiers) for method in kind()
    ]
    piped = lines()
    assert [one for one in summaries if not any(one in line for line in piped)] == []


def test_a_result_is_one_line_with_names_as_they_are(capsys):
    name = "[bold]a" + "b" * 200
    common.say(f"{name}: 1\x1b[31m MB")
    assert capsys.readouterr().out == f"{name}: 1[31m MB\n"


def test_json_has_null_for_what_is_no_number(capsys):
    common.print_json({"values": [1.5, float("nan")], "most": float("inf")})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"values": [1.5, None], "most": None}


def test_a_terminal_gets_no_control_characters(monkeypatch):
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        from forerun.cli.common import show

        show("a\x1b[2Jb\n")
    assert os.read(leader, 100) == b"a[2Jb\r\n"
    os.close(leader)
