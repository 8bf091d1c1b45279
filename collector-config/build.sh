#!/usr/bin/env bash
# Builds the Collector of builder.yaml into a cache outside the tree, and prints where it is. Needs Go and a Go module
# proxy; does nothing if it was built from the same builder.yaml before.
set -euo pipefail
cd "$(dirname "$0")"

version=$(sed -n 's/^  version: //p' builder.yaml)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llmspan
binary=$cache/otelcol-$version

if [[ -x $binary ]] && cmp --silent builder.yaml "$binary.yaml"; then
    echo "$binary"
    exit
fi
if ! command -v go >/dev/null; then
    echo "collector-config/build.sh: there is no 'go' in PATH; install Go, or set LLMSPAN_TEST_OTELCOL to a Collector" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@v$version"
sed "s|^dist:|&\n  output_path: $work/source|" builder.yaml >"$work/builder.yaml"
"$work/builder" --config "$work/builder.yaml"

mkdir -p "$cache"
mv "$work/source/otelcol-llmspan" "$binary.new"
mv "$binary.new" "$binary"
cp builder.yaml "$binary.yaml"
echo "$binary"
