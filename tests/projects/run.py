#!/usr/bin/env python3
"""Real projects, from a released fault to its released fix, by the product as it is built.

Each project is a repository of its newer release in which the sources are those of the older one.
The issue says what the newer release says; the "draft" puts the newer sources in their place. What
installs and what tests is detected, as it is for everybody: red before and green after is what has to
come out. Releases are had by name and version through the ordinary clients of their registries and
compared with the sums in `projects.toml`; `--lock` writes these down.

    tests/projects/run.py --patchfleet target/debug/patchfleet [--only NAME ...] [--write FILE]
"""
import argparse, hashlib, json, os, pathlib, queue, re, shutil, signal, subprocess, sys, tarfile, tempfile
import threading, time, tomllib, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ENDINGS = {"python": {".py"}, "node": {".js", ".cjs", ".mjs", ".ts"}, "rust": {".rs"}}
TESTS = re.compile(r"(^|/)(tests?|__tests__|spec|benches|fuzz|examples|docs?)(/|$)|(^|/)(test_[^/]*|[^/]*_test|conftest|tests?|[^/]*\.test|[^/]*\.spec)\.[a-z]+$|(^|/)(setup|noxfile|build)\.(py|rs)$")
QUIET = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def run(*command, cwd=None, env=None):
    done = subprocess.run(list(map(str, command)), cwd=cwd, env={**os.environ, **(env or {})}, **QUIET)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")


def fetch(project, version, cache):
    """The release's archive, in the cache or from the registry."""
    name, ecosystem = project["name"], project["ecosystem"]
    place = cache / f"{ecosystem}-{name}-{version}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=cache) as work:
            work = pathlib.Path(work)
            if ecosystem == "python":
                run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
                    f"{name}=={version}", "-d", work)
                found = next(work.glob("*.tar.gz"))
            elif ecosystem == "node":
                run("npm", "pack", "--silent", f"{name}@{version}", cwd=work)
                found = next(work.glob("*.tgz"))
            else:
                (work / "src").mkdir()
                (work / "src/lib.rs").touch()
                (work / "Cargo.toml").write_text(
                    f'[package]\nname = "fetch"\nversion = "0.0.0"\n[dependencies]\n{name} = "={version}"\n[workspace]\n')
                run("cargo", "fetch", "--quiet", cwd=work)
                home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
                found = next(home.glob(f"registry/cache/*/{name}-{version}.crate"))
            shutil.copy(found, place)
    return place


def unpacked(archive, into):
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    (root,) = [entry for entry in into.iterdir() if entry.is_dir()]
    return root


def sources(root, ecosystem):
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in files if path.suffix in ENDINGS[ecosystem] and not TESTS.search(str(path))}


def made(project, archives, work):
    """The repository at its fault, and the files that mend it."""
    old, new = (unpacked(archive, work / str(at)) for at, archive in enumerate(archives) if (work / str(at)).mkdir() is None)
    repo, fix = work / "repo", work / "fix"
    shutil.copytree(new, repo)
    for path in sorted(sources(new, project["ecosystem"])):
        before, after = old / path, new / path
        if before.exists() and before.read_bytes() == after.read_bytes():
            continue
        if not before.exists() and project.get("keep_new"):
            continue
        (fix / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(after, fix / path)
        if before.exists():
            shutil.copy(before, repo / path)
        else:
            (repo / path).unlink()
    for path in project.get("remove", []):
        (repo / path).unlink()
    for path, text in project.get("files", {}).items():
        (repo / path).write_text(text)
    if project["ecosystem"] == "rust" and not project.get("no_lock"):
        (repo / "Cargo.toml.orig").unlink(missing_ok=True)
        run("cargo", "generate-lockfile", "--quiet", cwd=repo)
    if project["ecosystem"] == "node" and not project.get("no_lock"):
        run("npm", "install", "--package-lock-only", "--ignore-scripts", "--silent", "--no-audit", cwd=repo)
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "Dev", f"GIT_{who}_EMAIL": "dev@example.com"}
    run("git", "init", "-q", "-b", "main", cwd=repo, env=env)
    run("git", "add", "-A", "-f", cwd=repo, env=env)
    run("git", "commit", "-qm", f"{project['name']} {project['new']} with the sources of {project['old']}", cwd=repo, env=env)
    return repo, fix


def demo(program, project, repo, fix, work, timeout, options):
    """What the product does with the issue, and what people see of it."""
    issue = work / "issue.json"
    issue.write_text(json.dumps({
        "action": "opened", "repository": {"full_name": "acme/case", "name": "case"},
        "issue": {"number": 1, "title": f"Mend what {project['new']} mends", "body": "See the change log.",
                  "user": {"login": "reporter"}, "labels": []}}))
    command = [program, "demo", "--json", "--keep", "--timeout", str(timeout), "--repository", repo,
               "--issue", issue, "--draft-command", f"cp -r {fix}/. .", *options]
    with open(work / "stderr", "wb") as stderr:
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=stderr, cwd=work,
                                 env={**os.environ, "TMPDIR": str(work)})
    lines = queue.Queue()
    threading.Thread(target=lambda: [*map(lines.put, child.stdout), lines.put(None)], daemon=True).start()
    events = []
    try:
        while (line := lines.get(timeout=timeout + 120)) is not None:
            events.append(json.loads(line))
            if events[-1]["event"] == "kept":
                break
        return judged(events)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()


def judged(events):
    named = lambda name: [event for event in events if event["event"] == name]
    end = (named("demo_finished") or [{}])[-1]
    tests = end.get("tests", {})
    code = lambda when: tests.get(when, {}).get("returncode")
    result = {
        "state": end.get("task", {}).get("state"), "before": code("before"), "after": code("after"),
        "ms": {event["when"]: event["duration_ms"] for event in named("tests")}, "whole_ms": end.get("duration_ms"),
        "command": "", "setup": "", "why": ""}
    for event in reversed(named("timeline")):
        if event["state"] == "failed":
            result["why"] = event["detail"]
            break
    if named("kept") and end.get("pull_request"):
        api = named("fleet_ready")[0]["github"].rstrip("/") + "/repos/acme/case"
        with urllib.request.urlopen(f"{api}/pulls/{end['pull_request']['number']}", timeout=20) as answer:
            body = json.load(answer)["body"]
        found = re.search(r"### Tests\n\n`(.*)`", body)
        result["command"] = found[1] if found else ""
        found = re.search(r"(Dependencies .*?)(?:, with network|\. The|\n|$)", body)
        result["setup"] = found[1] if found else ""
    result["right"] = result["state"] == "completed" and result["before"] not in (0, None) and result["after"] == 0
    return result


def row(project, result):
    seconds = lambda ms: f"{ms / 1000:.1f} s" if ms is not None else "–"
    setup = re.sub(r"^Dependencies were installed by (.*) in the sandbox.*$", r"\1", result["setup"])
    setup = re.sub(r"; refused hosts: .*$", " (its registry was not open)", setup)
    verdict = "red, then green" if result["right"] else "does not work: " + (result["why"] or str(result["state"])).split("\n")[0][:200]
    cells = [project["ecosystem"], f"{project['name']} {project['old']} → {project['new']}", f"`{result['command']}`" if result["command"] else "–",
             setup or "–", str(result["before"]), seconds(result["ms"].get("before")), str(result["after"]),
             seconds(result["ms"].get("after")), seconds(result["whole_ms"]), verdict]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


HEAD = "| | project | detected tests | detected set-up | before | | after | | whole | verdict |\n|---|---|---|---|---|---|---|---|---|---|"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patchfleet", required=True)
    parser.add_argument("--only", nargs="*", default=[], help="names of projects")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("target/projects"))
    parser.add_argument("--timeout", type=int, default=600)
    parser.add_argument("--lock", action="store_true", help="print the sums of the archives, and run nothing")
    parser.add_argument("--setup-open", action="append", default=[], help="as of `patchfleet demo`")
    parser.add_argument("--write", type=pathlib.Path, help="a file for the table")
    options = parser.parse_args()
    program = pathlib.Path(options.patchfleet).resolve()
    opened = [word for network in options.setup_open for word in ("--setup-open", network)]
    options.cache.mkdir(parents=True, exist_ok=True)
    projects = tomllib.loads((HERE / "projects.toml").read_text())["project"]
    unknown = set(options.only) - {project["name"] for project in projects}
    if unknown:
        sys.exit(f"there is no project {', '.join(sorted(unknown))} in projects.toml")
    rows, wrong = [], 0
    for project in projects:
        if options.only and project["name"] not in options.only:
            continue
        began = time.monotonic()
        try:
            archives = [fetch(project, project[which], options.cache) for which in ("old", "new")]
            sums = [hashlib.sha256(archive.read_bytes()).hexdigest() for archive in archives]
            if options.lock:
                print(f'{project["name"]}\nsha256 = ["{sums[0]}", "{sums[1]}"]', flush=True)
                continue
            if sums != project["sha256"]:
                raise RuntimeError("the archives are not those of projects.toml: " + ", ".join(sums))
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
                work = pathlib.Path(work)
                repo, fix = made(project, archives, work)
                result = demo(program, project, repo, fix, work, options.timeout, opened)
        except (RuntimeError, OSError, queue.Empty, StopIteration, KeyError) as error:
            result = {"state": "not run", "before": None, "after": None, "ms": {}, "whole_ms": None, "command": "",
                      "setup": "", "why": f"{type(error).__name__}: {error}", "right": False}
        expected = project.get("works", True)
        wrong += result["right"] != expected
        rows.append(row(project, result))
        print(rows[-1], f"({time.monotonic() - began:.0f} s)", flush=True)
    if options.write and rows:
        options.write.write_text("\n".join([HEAD, *rows]) + "\n")
    if wrong:
        sys.exit(f"{wrong} of {len(rows)} projects are not as projects.toml expects")


if __name__ == "__main__":
    main()
