"""Programs that run other programs or code: how to find the command behind them, and which cannot be opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Wrapper:
    """A program whose operands are another command.

    `flags` is a pattern of options without a value, `valued` are options with one behind them, `operands` counts what
    stands before the command, `feeds` says that it adds arguments, `starts` that it starts a shell if no command is given.
    """

    flags: str = r"(?!)"
    valued: frozenset[str] = frozenset()
    operands: int = 0
    assigns: bool = False
    feeds: bool = False
    starts: bool = False
    queries: frozenset[str] = frozenset()


@cache
def wrappers() -> Mapping[str, Wrapper]:
    """Wrappers that can be opened, by name."""
    plain = Wrapper()
    return {
        "sudo": Wrapper(r"-[nEHbkKSPA]+|--(preserve-env|non-interactive|set-home)", frozenset({"-u", "-g", "-p", "-C", "-h",
                        "-D", "-R", "-T", "-r", "-t", "-U"}), assigns=True, starts=True),
        "doas": Wrapper(r"-[nL]+", frozenset({"-u", "-C"}), starts=True),
        "env": Wrapper(r"-[i0]+|-|--ignore-environment", frozenset({"-u", "-C"}), assigns=True),
        "nohup": plain,
        "setsid": Wrapper(r"-[cfw]+"),
        "nice": Wrapper(r"-\d+|-n-?\d+|--adjustment=-?\d+", frozenset({"-n"})),
        "ionice": Wrapper(r"-c\d|-n\d|-t", frozenset({"-c", "-n"})),
        "time": Wrapper(r"-[pv]+"),
        "timeout": Wrapper(r"-[kv]+|--(preserve-status|foreground|verbose|signal=\w+|kill-after=[\w.]+)|-s\w+",
                           frozenset({"-s", "-k"}), operands=1),
        "stdbuf": Wrapper(r"-[ioe]\S+"),
        "command": Wrapper(r"-p", queries=frozenset({"-v", "-V"})),
        "builtin": plain,
        "exec": Wrapper(r"-[cl]+", frozenset({"-a"})),
        "busybox": plain,
        "toybox": plain,
        "xargs": Wrapper(r"-[0rtxp]+|-[nPLIdsE]\S+|--(null|no-run-if-empty|verbose)|--[a-z-]+=\S+",
                         frozenset({"-n", "-P", "-L", "-I", "-d", "-s", "-E", "-a"}), feeds=True),
    }  # fmt: skip


SHELLS = frozenset(
    {"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "rbash", "pwsh", "powershell"}
)

# They run a command or a file that is not opened here.
OPAQUE = frozenset({
    "source", ".", "alias", "enable", "su", "runuser", "script", "chroot", "nsenter", "unshare", "systemd-run",
    "parallel", "flock", "watch", "strace", "ltrace", "gdb", "at", "batch", "crontab", "expect", "screen", "tmux",
    "setpriv", "capsh", "pkexec", "start-stop-daemon", "daemonize", "entr", "run-parts", "make", "docker", "podman",
    "kubectl", "nerdctl", "ctr", "lxc", "machinectl", "ssh", "mosh", "telnet", "socat", "ncat", "openssl-s_client",
    "unbuffer", "faketime", "proot", "firejail", "bwrap", "xterm", "vi", "vim", "view", "ex", "ed", "emacs", "less",
    "more", "man", "gawk-ext", "history", "fc", "bind", "complete", "mapfile", "readarray",
})  # fmt: skip


def _code(options: str) -> Callable[[tuple[str | None, ...]], bool]:
    """Whether an interpreter gets its code on the command line or from its input."""
    inline = re.compile(rf"-[A-Za-z]*[{options}].*|--(eval|exec|print|execute|run).*")

    def tells(args: tuple[str | None, ...]) -> bool:
        if not args or args[-1] == "-":
            return True
        script = next((at for at, arg in enumerate(args) if arg is None or not arg.startswith("-")), len(args))
        return script == len(args) or any(arg is None or inline.fullmatch(arg) for arg in args[: script + 1])

    return tells


def _any_matches(pattern: str) -> Callable[[tuple[str | None, ...]], bool]:
    found = re.compile(pattern)
    return lambda args: any(arg is None or found.search(arg) for arg in args)


_AWK = _any_matches(r"system|\||getline|@|^-f|^-[eEil]|--")
INLINE: Mapping[str, Callable[[tuple[str | None, ...]], bool]] = {
    **{name: _code("cm") for name in ("python", "python2", "python3", "pypy", "pypy3")},
    **{name: _code("eE") for name in ("perl", "ruby", "lua", "luajit", "node", "nodejs", "deno", "bun")},
    "php": _code("rBRE"),
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _AWK),
    # sed's `e` command and flag run their text; `w` writes files.
    "sed": _any_matches(r"^-f|--file|(^|[;{}\n$/\d])\s*[ewW](\s|$)|([^\w\s]).*\3.*\3\w*[ew]"),
    "tar": _any_matches(r"checkpoint-action|to-command|use-compress|rsh-command|^-[A-Za-z]*[IF]|info-script"),
    "git": _any_matches(r"^-c|^--exec|^--upload-pack|^--receive-pack|^ext::|config|alias|submodule|bisect|rebase"),
}
"""Interpreters and the like: whether these arguments hold code that is not opened."""
