"""Checks a proof that `flowwarden export --proof` wrote, alone: standard library and cryptography only.

    python verify_proof.py PROOF.json --key 'flowwarden.internal/…+…+…' [--frames SESSION.mitm]

Compare --key with the key that was published when the gateway was set up. Without it the proof only speaks for itself.
With --frames each frame of the exported file has to be one that a proven record names by its SHA-256. Exit 0: proven.
"""

import argparse
import base64
import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def need(holds, why):
    if not holds:  # not `assert`, which python -O leaves out
        raise ValueError(why)


def parse_key(text):
    """A C2SP verifier key: name+hash+base64(0x01 || public key)."""
    need(text.count("+") >= 2, "not a verifier key, name+hash+key")
    name, key_hash, encoded = text.split("+", 2)
    raw = base64.b64decode(encoded)
    need(hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_hash, "the key's hash is wrong")
    need(raw[0] == 1 and len(raw) == 33, "not an Ed25519 key")
    return name, bytes.fromhex(key_hash), Ed25519PublicKey.from_public_bytes(raw[1:])


def tree_head(note, key_text):
    """Size and root of a signed note, its signature checked (C2SP signed-note, tlog-checkpoint)."""
    name, key_hash, key = parse_key(key_text)
    body, signatures = (note.rsplit("\n\n", 1)[0] + "\n", note.rsplit("\n\n", 1)[1])
    for line in signatures.splitlines():
        dash, signer, encoded = line.split(" ", 2)
        if dash == "\u2014" and signer == name and base64.b64decode(encoded)[:4] == key_hash:
            key.verify(base64.b64decode(encoded)[4:], body.encode())
            origin, size, root = body.split("\n")[:3]
            need(origin == name, "a checkpoint of another log")
            return int(size), base64.b64decode(root)
    raise ValueError("the checkpoint does not bear the key's signature")


def root_from(record, index, size, path):
    """RFC 9162 section 2.1.3.2."""
    result, last = hashlib.sha256(b"\0" + record).digest(), size - 1
    need(0 <= index < size, "beyond the tree")
    for node in path:
        need(last > 0, "the path is too long")
        if index & 1 or index == last:
            result = hashlib.sha256(b"\1" + node + result).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            result = hashlib.sha256(b"\1" + result + node).digest()
        index, last = index >> 1, last >> 1
    need(last == 0, "the path is too short")
    return result


def frames(data):
    """Each frame of a .mitm file: a netstring that ends in a brace."""
    at = 0
    while at < len(data):
        colon = data.index(b":", at)
        end = colon + 2 + int(data[at:colon])
        yield data[at:end]
        at = end


def main():
    args = argparse.ArgumentParser(description="Checks a proof that `flowwarden export --proof` wrote.")
    args.add_argument("proof")
    args.add_argument("--key", help="the published verifier key")
    args.add_argument("--frames", help="the .mitm file exported with it")
    asked = args.parse_args()
    proof = json.load(open(asked.proof, encoding="utf-8"))
    size, root = tree_head(proof["checkpoint"], asked.key or proof["key"])
    hashes = set()
    for item in proof["records"]:
        record, path = item["record"].encode(), [bytes.fromhex(node) for node in item["path"]]
        need(json.loads(record)["seq"] == item["seq"], "a record at another place")
        need(root_from(record, item["seq"], size, path) == root, f"record {item['seq']} is not in the log")
        hashes.add((json.loads(record).get("frame") or {}).get("sha256"))
    if asked.frames:
        for frame in frames(open(asked.frames, "rb").read()):
            need(hashlib.sha256(frame).hexdigest() in hashes, "a frame that no proven record names")
    print(f"proven: {len(proof['records'])} records of a log of {size}" + ("" if asked.key else " (key not compared)"))


if __name__ == "__main__":
    try:
        main()
    except (InvalidSignature, ValueError, KeyError, IndexError, TypeError, OSError) as error:
        why = f"there is no {error} in it" if isinstance(error, KeyError) else str(error) or "a wrong signature"
        raise SystemExit(f"not proven: {why}") from None
