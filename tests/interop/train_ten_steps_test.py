"""Starts a shard and lets train_ten_steps.py, which knows only proto/, train against it."""
import glob
import os
import subprocess
import sys


def generate_stubs(target):
    plugin = subprocess.run(["which", "grpc_python_plugin"], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(["protoc", "-Iproto", f"--python_out={target}", f"--grpc_out={target}", f"--plugin=protoc-gen-grpc={plugin}",
                    *sorted(glob.glob("proto/myriad/v1/*.proto"))], check=True)


def wait_for_address(server, path):
    """The shard's host:port, or exits if the shard does first."""
    while not os.path.exists(path):
        try:
            sys.exit(f"myriad-server ended with {server.wait(timeout=0.05)} before it served")
        except subprocess.TimeoutExpired:
            pass
    with open(path) as file:
        return file.read().strip()


def main(server_binary, program):
    folder = os.environ["TEST_TMPDIR"]
    generate_stubs(folder)
    address_file = os.path.join(folder, "address")
    server = subprocess.Popen([server_binary, "--listen", "127.0.0.1:0", "--address-file", address_file])
    try:
        address = wait_for_address(server, address_file)
        subprocess.run([sys.executable, program, address], env={**os.environ, "PYTHONPATH": folder}, check=True, timeout=120)
        server.terminate()
        if server.wait(timeout=30) != 0:
            sys.exit(f"myriad-server ended with {server.returncode} after SIGTERM")
    finally:
        server.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
