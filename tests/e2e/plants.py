"""Plants programs for whoever runs git here or in the agent's own repositories; see sandbox.rs."""

import os, pathlib, unittest

PLACE = pathlib.Path("MARKER")
HERE = pathlib.Path.cwd()
KEYS = """core.fsmonitor core.sshCommand core.editor core.pager core.askPass core.gitProxy
    core.alternateRefsCommand diff.external gpg.program sequence.editor filter.planted.clean
    filter.planted.smudge filter.planted.process diff.planted.textconv diff.planted.command
    merge.planted.driver uploadpack.packObjectsHook remote.origin.uploadpack
    remote.origin.receivepack remote.origin.vcs""".split()
HOOKS = """pre-commit post-commit post-checkout post-index-change reference-transaction pre-push
    post-merge applypatch-msg update pre-receive post-receive post-update pre-auto-gc""".split()
ATTRIBUTES = "* filter=planted diff=planted merge=planted\n"


def program(name):
    return f"touch {PLACE}/{name}-$$; cat"


def configuration():
    text = "[core]\n\trepositoryformatversion = 0\n"
    for key in KEYS:
        section, _, name = key.rpartition(".")
        section, _, part = section.partition(".")
        head = f'[{section} "{part}"]' if part else f"[{section}]"
        text += f'{head}\n\t{name} = "{program(key)}"\n'
    text += f'[credential]\n\thelper = "!{program("credential")}"\n[commit]\n\tgpgSign = true\n'
    text += f'[url "ext::touch {PLACE}/ext #"]\n\tinsteadOf = http\n\tinsteadOf = file\n'
    return text + '[protocol "ext"]\n\tallow = always\n'


def put(path, text):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    except OSError:
        pass


def fill(folder):
    """A git folder, or what is to be taken for one."""
    put(folder / "config", configuration())
    put(folder / "info/attributes", ATTRIBUTES)
    for hook in HOOKS:
        put(folder / "hooks" / hook, f"#!/bin/sh\n{program(hook)}\n")
    if not (folder / "HEAD").exists():
        put(folder / "HEAD", "ref: refs/heads/main\n")
        put(folder / "objects/info/alternates", "/nowhere\n")
        put(folder / "refs/heads/none", "")


def the_agents_own():
    """Stores and mirrors beside the work tree and above it."""
    roots = [path for path in HERE.parents if path.name == "workspaces"]
    for root in roots:
        for place, folders, files in os.walk(root):
            # What a draft's own git obeys is the draft's: `.git`, and the copy that it is made of.
            is_store = place.endswith("objects.git") or "/cache/" in place
            if is_store and "HEAD" in files and "objects" in folders:
                yield pathlib.Path(place)


def plant(nested):
    fill(HERE / ".git")
    fill(HERE / "vendor/lib/.git")
    for store in list(the_agents_own()):
        fill(store)
        open(PLACE.parent / "planted-in-the-agents-own", "w").close()
    if nested:
        fill(HERE / "orders/nested/.git")
        # A gitfile, which leads to another folder, and a folder that has its settings elsewhere.
        fill(HERE / "elsewhere.git")
        put(HERE / "tests/.git", "gitdir: ../elsewhere.git\n")
        fill(HERE / "orders/other/.git")
        put(HERE / "orders/other/.git/commondir", "../../../elsewhere.git\n")
        put(HERE / ".gitattributes", ATTRIBUTES)
        put(HERE / ".gitmodules", f'[submodule "x"]\n\tpath = vendor/lib\n\tupdate = "!{program("update")}"\n')


class Plants(unittest.TestCase):
    def test_it_goes_on_as_if_nothing_were(self):
        plant(nested=True)


if __name__ == "__main__":
    plant(nested=False)
