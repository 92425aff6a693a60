"""What a user would do today: skopeo into an OCI layout, tar, upload, copy to the second account, download, skopeo.

Reads a plan (JSON) and prints its own wall and CPU seconds, those of its child processes included.
"""

import json
import os
import resource
import subprocess
import sys
import tarfile
import time

from azure.storage.blob import ContainerClient

BLOCK = 8 * 1024 * 1024


def skopeo(source, target):
    subprocess.run(
        ["skopeo", "copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", source, target],
        check=True,
    )


def container(url):
    return ContainerClient.from_container_url(url, max_block_size=BLOCK, max_single_put_size=BLOCK)


def upload(client, path):
    with open(path, "rb") as data:
        client.upload_blob("peer.tar", data, overwrite=True, max_concurrency=8)


def download(client, path):
    with open(path, "wb") as file:
        client.download_blob("peer.tar", max_concurrency=8).readinto(file)


def cpu():
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    folder = plan["folder"]
    layout, archive = os.path.join(folder, "layout"), os.path.join(folder, "peer.tar")
    source, target = container(plan["source_container"]), container(plan["target_container"])
    began, used = time.monotonic(), cpu()

    for image in plan["images"]:
        skopeo(f"docker://{plan['source']}/{image}:1", f"oci:{layout}:{image.replace('/', '-')}")
    with tarfile.open(archive, "w") as tar:
        tar.add(layout, arcname=".")
    upload(source, archive)

    # The leg between the accounts: down and up again.
    download(source, archive + ".2")
    upload(target, archive + ".2")

    download(target, archive + ".3")
    arrived = os.path.join(folder, "arrived")
    with tarfile.open(archive + ".3") as tar:
        tar.extractall(arrived, filter="data")
    for image in plan["images"]:
        skopeo(f"oci:{arrived}:{image.replace('/', '-')}", f"docker://{plan['target']}/{image.replace('bench', 'peer')}:1")

    json.dump({"wall": time.monotonic() - began, "cpu": cpu() - used}, sys.stdout)


main()
