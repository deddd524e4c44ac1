#!/usr/bin/env bash
# build-deb.sh PACKAGE MAJOR OUT: the Debian package postgresql-MAJOR-hubspot-sync, from the folder that `make ext` filled.
#
# DEB_REVISION (default 1) is the package's revision, behind the version.
set -euo pipefail
package=$(realpath "${1:?the folder that make ext filled}") major=${2:?PostgreSQL major version} out=${3:?output folder}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
# shellcheck source=/dev/null
. "$repo/relay/packaging/deb-common.sh"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
library=usr/lib/postgresql/$major/lib/hubspot_sync.so
[ -f "$package/$library" ] || { echo "no $package/$library: run make ext with PG_CONFIG of PostgreSQL $major" >&2; exit 1; }
(cd "$package" && find . -type f -print0) | while IFS= read -r -d '' file; do
  install -D -m "$(case $file in *.so) echo 755 ;; *) echo 644 ;; esac)" "$package/$file" "$root/$file"
done
strip --strip-unneeded "$root/$library"
chmod 644 "$root/$library"

documents "$root/usr/share/doc/postgresql-$major-hubspot-sync" "$repo/extension/README.md"
install -d -m 755 "$root/DEBIAN"
control "$root" "postgresql-$major-hubspot-sync" "$(libc_needed "$package/$library"), libgcc-s1, postgresql-$major" \
  "field-by-field synchronisation of tables with HubSpot" \
  "A PostgreSQL extension: triggers capture each committed change of mapped columns, and functions decide what is written on either side. The service hubspot-relay carries values to HubSpot and back. After an upgrade run ALTER EXTENSION hubspot_sync UPDATE in each database." \
  "Suggests: hubspot-relay"
build "$root" "$out"
