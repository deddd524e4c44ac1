# Shared by the two build-deb.sh scripts: to be sourced, with `repo` set to the repository's root.

version=$(sed -n '/^\[workspace.package\]/,/^\[/{s/^version = "\(.*\)"/\1/p}' "$repo/Cargo.toml")
deb_version=$version-${DEB_REVISION:-1}

# The newest libc symbol that a program uses, as a dependency.
libc_needed() {
  objdump -T "$1" | sed -n 's/.*GLIBC_\([0-9.]*\)).*/\1/p' | sort -V | tail -n 1 | sed 's/.*/libc6 (>= &)/'
}

# documents FOLDER FILE…: documents, licence and changelog where Debian has them.
documents() {
  local folder=$1
  shift
  install -d "$folder"
  install -m 644 "$@" "$folder"
  {
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: hubspot_sync\n\n'
    printf 'Files: *\nCopyright: the hubspot_sync maintainers\nLicense: Apache-2.0\n On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n'
  } >"$folder/copyright"
  gzip -9n <"$repo/CHANGELOG.md" >"$folder/changelog.gz"
}

# control ROOT NAME DEPENDS SUMMARY DESCRIPTION [FIELD…]
control() {
  local root=$1 name=$2 depends=$3 summary=$4 description=$5
  shift 5
  {
    printf 'Package: %s\nVersion: %s\nSection: database\nPriority: optional\nArchitecture: %s\n' "$name" "$deb_version" "$(dpkg --print-architecture)"
    printf 'Maintainer: hubspot_sync maintainers <maintainers@localhost>\nDepends: %s\n' "$depends"
    [ $# -eq 0 ] || printf '%s\n' "$@"
    printf 'Installed-Size: %s\n' "$(du -sk --exclude=DEBIAN "$root" | cut -f1)"
    printf 'Description: %s\n' "$summary"
    fold -s -w 76 <<<"$description" | sed 's/^/ /; s/ *$//'
  } >"$root/DEBIAN/control"
  (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
}

# build ROOT OUT: the package; its name is printed. Files belong to root whoever builds. DEB_COMPRESSION: xz, or a quicker one.
build() {
  mkdir -p "$2"
  dpkg-deb --root-owner-group "-Z${DEB_COMPRESSION:-xz}" --build "$1" "$2" >/dev/null
  echo "$2/$(sed -n 's/^Package: //p' "$1/DEBIAN/control")_${deb_version}_$(dpkg --print-architecture).deb"
}
