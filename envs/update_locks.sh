#!/bin/sh
# Renews envs/locks from the ranges in requirements*.txt and pyproject.toml: `make update-locks` runs this with uv on PATH.
# All environments take the same version of a package: everything is resolved together first, then cut into one lock each.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['test'], sep='\n')" >"$scratch/test.in"

resolve() { # OUTPUT ARGUMENT... : torch alone is not written, see envs/uv.toml
    output=$1 && shift
    uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-package torch \
        --config-file envs/uv.toml --custom-compile-command 'make update-locks' --output-file "$output" "$@"
}

lock() { # NAME INPUT... : prefers the versions that everything was resolved to
    name=$1 && shift
    cp "$scratch/all" "envs/locks/$name.txt"
    resolve "envs/locks/$name.txt" -c envs/locks/streaming-torch.txt envs/requirements_build.txt "$@"
    echo "envs/locks/$name.txt: $(grep -c '==' "envs/locks/$name.txt") packages"
}

resolve "$scratch/all" --upgrade pyproject.toml --extra dev requirements_streaming.txt requirements_full.txt envs/requirements_build.txt
lock default requirements.txt
lock gateway requirements_gateway.txt
lock streaming requirements_streaming.txt
lock full requirements_full.txt
lock dev pyproject.toml --extra dev
lock test - <"$scratch/test.in"
resolve envs/locks/full-no-deps.txt --upgrade --no-deps envs/requirements_full_no_deps.txt

# Every package must install from a wheel on every supported system. What is checked here holds all that the other locks hold.
export MACOSX_DEPLOYMENT_TARGET=14.0
for name in dev streaming full full-no-deps; do
    for system in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do
        for python in 3.11 3.12 3.13; do
            uv pip install --quiet --dry-run --no-deps --only-binary :all: --require-hashes --target "$scratch/target" \
                --python-platform "$system" --python-version "$python" -r "envs/locks/$name.txt" ||
                { echo "envs/locks/$name.txt does not install with Python $python on $system" >&2 && exit 1; }
        done
    done
done
echo "every lock installs with Python 3.11 to 3.13 on Linux (x86-64, arm64, glibc 2.28) and macOS 14 (arm64)"
