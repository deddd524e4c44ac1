#!/usr/bin/env bash
# clean-root.sh DIR CACHE: a clean Debian root folder in DIR, with apt set up as on this machine and no service started by
# packages. CACHE keeps the base system for the next time. As root; needs debootstrap and the network.
set -euo pipefail
dir=${1:?folder to make} cache=${2:?folder for the base system}
suite=bookworm
if [ ! -e "$cache/ready" ]; then
  # The mirror that this system's own apt uses for the Debian archive.
  mirror=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' | awk -F'|' '$1 == "Debian" { print $2; exit }')
  [ -n "$mirror" ] || { echo "clean-root.sh: apt knows no Debian archive: run apt-get update, or add one to its sources" >&2; exit 1; }
  rm -rf --one-file-system "$cache"
  mkdir -p "$cache"
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$suite" "$cache/base" \
    "$mirror" >"$cache/log" || { tail -n 20 "$cache/log" >&2; exit 1; }
  touch "$cache/ready"
fi
cp -a "$cache/base" "$dir"
cp /etc/apt/apt.conf.d/*[Pp]roxy* "$dir/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/resolv.conf "$dir/etc/resolv.conf" 2>/dev/null || true
printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
chmod 755 "$dir/usr/sbin/policy-rc.d"
