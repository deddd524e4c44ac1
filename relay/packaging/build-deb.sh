#!/usr/bin/env bash
# build-deb.sh BINARY OUT: the Debian package hubspot-relay, from a built relay. Needs dpkg-deb and objdump, no root.
#
# DEB_REVISION (default 1) is the package's revision, behind the version.
set -euo pipefail
binary=$(realpath "${1:?the built hubspot-relay}") out=${2:?output folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
# shellcheck source=/dev/null
. "$here/deb-common.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -D -m 755 "$binary" "$root/usr/bin/hubspot-relay"
strip --strip-unneeded "$root/usr/bin/hubspot-relay"
for unit in hubspot-relay.service hubspot-relay@.service; do
  install -D -m 644 "$here/$unit" "$root/lib/systemd/system/$unit"
done
install -D -m 640 "$here/relay.toml" "$root/etc/hubspot-relay/relay.toml"
for file in alerts.yml alerts_test.yml grafana-dashboard.json; do
  install -D -m 644 "$repo/relay/deploy/$file" "$root/usr/share/hubspot-relay/$file"
done

# Manual pages and completions come from the command line's own definition.
install -d "$root/usr/share/man/man1"
"$binary" man | gzip -9n >"$root/usr/share/man/man1/hubspot-relay.1.gz"
for command in $("$binary" --help | sed -n '/^Commands:/,/^$/{s/^  \([a-z]*\) .*/\1/p}' | grep -v '^help$'); do
  "$binary" man "$command" | gzip -9n >"$root/usr/share/man/man1/hubspot-relay-$command.1.gz"
done
install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
"$binary" completions bash >"$root/usr/share/bash-completion/completions/hubspot-relay"
"$binary" completions zsh >"$root/usr/share/zsh/vendor-completions/_hubspot-relay"
"$binary" completions fish >"$root/usr/share/fish/vendor_completions.d/hubspot-relay.fish"

doc=$root/usr/share/doc/hubspot-relay
documents "$doc" "$repo/relay/README.md" "$repo/relay/deploy/RUNBOOK.md"
install -d -m 755 "$root/DEBIAN"
echo /etc/hubspot-relay/relay.toml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
  install -m 755 "$here/debian/$script" "$root/DEBIAN/$script"
done
control "$root" hubspot-relay "$(libc_needed "$binary"), libgcc-s1, adduser, ca-certificates" \
  "relay between PostgreSQL with hubspot_sync and HubSpot" \
  "Carries captured changes of mapped tables to HubSpot's CRM, and HubSpot's webhooks into the database. What is written where is decided by the PostgreSQL extension hubspot_sync (postgresql-15-hubspot-sync), which need not be on the same host." \
  "Recommends: postgresql-15-hubspot-sync"
build "$root" "$out"
