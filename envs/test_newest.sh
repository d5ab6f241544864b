#!/bin/sh
# Runs the unit tests with the newest packages that the ranges admit, to see the next break before users do.
# Names the packages that are newer than in the lock, and the tests that fail. Never fails itself.
# Without the tests of supervisor, preview and fuzzing, which take the longest. Run in the root of the repository.
set -u
python=.venv-newest/bin/python
if ! uv venv --quiet --clear --python "${1:-python3}" .venv-newest ||
    ! uv pip install --quiet --python "$python" --upgrade -e '.[test]'; then
    echo "newest packages: they do not install together"
    exit 0
fi
echo "newest packages: newer than in envs/locks/dev.txt:"
uv pip freeze --python "$python" --exclude-editable | grep -vxFf envs/locks/dev.txt | while read -r line; do
    grep -qF "$line " envs/locks/dev.txt || echo "  $line"
done
if timeout -s INT 300 "$python" -m pytest tests/unit --maxfail=20 -rf; then
    echo "newest packages: the unit tests pass"
else
    echo "newest packages: the unit tests do not pass, see the names above; this fails nothing"
fi
