#!/usr/bin/env bash
# Install what `make demo` and `make test` need and the machine lacks: Debian packages and cargo-pgrx.
#
# Safe to run again: it installs only what is missing, says so first, and prints one line when there is nothing to do.
# No service is left running: Debian's package would create and start a cluster of its own, which is suppressed.
set -euo pipefail

# Must equal the `pgrx` version in extension/Cargo.toml: cargo-pgrx refuses any other.
PGRX_VERSION=0.18.1
PG_MAJOR=15
# Where a cargo-pgrx goes that must not replace another version in the user's own cargo folder (the Makefile has its
# `bin` first in PATH).
TOOLS_DIR=${HUBSPOT_SYNC_TOOLS:-$(dirname "${BASH_SOURCE[0]}")/../../target/tools}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root for: $* (run as root, or install sudo)"
  fi
}

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# PostgreSQL's package creates and starts a cluster "main" when it is first installed. The tests start their own, so this
# switches that off for the installation and then puts the setting back.
install_postgresql() {
  local conf=/etc/postgresql-common/createcluster.conf
  installed postgresql-common || apt_install postgresql-common
  as_root cp -p "$conf" "$conf.hubspot_sync"
  # shellcheck disable=SC2064  # the path is meant to be expanded now
  trap "as_root mv -f '$conf.hubspot_sync' '$conf'" EXIT
  printf '\ncreate_main_cluster = false\n' | as_root tee -a "$conf" >/dev/null
  apt_install "postgresql-$PG_MAJOR"
  as_root mv -f "$conf.hubspot_sync" "$conf"
  trap - EXIT
}

# Some packages enable and start a service, and only their programs are wanted: the tests start their own.
install_without_service() {
  local policy=/usr/sbin/policy-rc.d
  if [ -e "$policy" ]; then
    apt_install "$1"
  else
    # shellcheck disable=SC2064  # the path is meant to be expanded now
    trap "as_root rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    apt_install "$1"
    as_root rm -f "$policy"
    trap - EXIT
  fi
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet "$1"
  fi
}

install_packages() {
  # libclang and the server's headers: pgrx generates its bindings from them. libssl and pkg-config: cargo-pgrx.
  # debootstrap, binutils: the Debian packages and the clean root they are tested in. python3-venv: the test with HubSpot's own client library. prometheus: alert rules and dashboard are tested with it.
  # pgbouncer, plpgsql-check: the tests' pooler, and what checks PL/pgSQL functions.
  local wanted=(
    ca-certificates gcc libc6-dev make pkg-config libssl-dev libclang-dev python3-venv prometheus debootstrap binutils
    chromium chromium-driver
    "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" "postgresql-$PG_MAJOR-plpgsql-check" pgbouncer
  )
  local missing=() package
  for package in "${wanted[@]}"; do
    installed "$package" || missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  as_root apt-get update
  if ! installed "postgresql-$PG_MAJOR"; then
    install_postgresql
  fi
  for package in prometheus pgbouncer; do
    installed "$package" || install_without_service "$package"
  done
  apt_install "${missing[@]}"
}

check_rust() {
  command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs, then run this again"
  local component
  for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 && continue
    command -v rustup >/dev/null || die "the Rust component $component is missing"
    say "adding the Rust component $component"
    rustup component add "$component"
  done
}

pgrx_version() {
  cargo pgrx --version 2>/dev/null | awk '{ print $2 }' || true
}

install_cargo_pgrx() {
  local found
  found=$(pgrx_version)
  [ "$found" != "$PGRX_VERSION" ] || return 0
  local options=(--locked --version "$PGRX_VERSION")
  if [ -n "$found" ]; then
    say "cargo-pgrx is $found, needed is $PGRX_VERSION: installing that into $TOOLS_DIR (some minutes)"
    options+=(--root "$TOOLS_DIR")
  else
    say "installing cargo-pgrx $PGRX_VERSION by cargo install (some minutes)"
  fi
  # Its own target folder: cargo install would otherwise build in CARGO_TARGET_DIR and leave that behind.
  env -u CARGO_TARGET_DIR cargo install cargo-pgrx "${options[@]}"
}

if command -v apt-get >/dev/null; then
  install_packages
else
  say "no apt-get: the packages of PostgreSQL $PG_MAJOR with headers, libclang and OpenSSL must be there already"
fi
check_rust
install_cargo_pgrx
say "everything needed is installed (PostgreSQL $PG_MAJOR, cargo-pgrx $PGRX_VERSION, $(rustc --version))"
