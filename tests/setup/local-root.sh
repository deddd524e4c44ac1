#!/usr/bin/env bash
# local-root.sh DIR CACHE: a clean Debian root folder in DIR, without the network: made of this machine's own Debian packages,
# each file as the package holds it, as far as the machine has it, and set up by the packages' own scripts. As root.
#
# In it are what every Debian system has (essential and required packages, apt), PostgreSQL, and what those depend on: nothing
# else of this machine, no user, no database, and no settings but the packages' own files in /etc as they are here. PostgreSQL is
# unpacked but not set up, so that installing it does what it does on a new machine. apt there knows no archive: what would have to
# be fetched cannot be installed.
#
# CACHE keeps the folder for the next time, for as long as the machine's packages stay the same.
set -euo pipefail
dir=${1:?folder to make} cache=${2:?folder for the base system}
major=15
[ "$(id -u)" -eq 0 ] || { echo "local-root.sh: needs root" >&2; exit 1; }

# Packages to copy: the closure over Depends and Pre-Depends of what is installed, the first alternative that is there.
wanted() {
  dpkg-query -W -f '${db:Status-Status}|${Package}|${Essential}|${Priority}|${Provides}|${Pre-Depends}, ${Depends}\n' |
    awk -F'|' -v roots="apt adduser ca-certificates postgresql-$major" '
      # Alternatives are told apart by the same sign as fields: what follows the fifth belongs together.
      $1 != "installed" { next }
      {
        needs = $6
        for (i = 7; i <= NF; i++) needs = needs "|" $i
        depends[$2] = needs
        provided[$2] = $2
        n = split($5, offers, ",")
        for (i = 1; i <= n; i++) { gsub(/\(.*\)| /, "", offers[i]); if (offers[i] != "" && !(offers[i] in provided)) provided[offers[i]] = $2 }
        if ($3 == "yes" || $4 == "required") queue[++last] = $2
      }
      END {
        n = split(roots, more, " ")
        for (i = 1; i <= n; i++) queue[++last] = more[i]
        for (at = 1; at <= last; at++) {
          name = queue[at]
          if (name in done) continue
          if (!(name in depends)) { print "local-root.sh: " name " is not installed here: run make setup" >"/dev/stderr"; exit 1 }
          done[name] = 1
          print name
          n = split(depends[name], groups, ",")
          for (i = 1; i <= n; i++) {
            m = split(groups[i], either, "|")
            for (j = 1; j <= m; j++) {
              gsub(/\(.*\)|\[.*\]|:any|[ \t]/, "", either[j])
              if (either[j] in provided) { queue[++last] = provided[either[j]]; break }
            }
          }
        }
      }'
}

make() {
  local base=$1 info=/var/lib/dpkg/info package
  mapfile -t packages < <(wanted)
  [ "${#packages[@]}" -gt 50 ] || exit 1
  mkdir -p "$base"/{dev,proc,sys,run,tmp,root,home,mnt,etc/apt,usr/bin,usr/sbin,usr/lib,usr/lib64,var/lib/dpkg/{info,updates,triggers,alternatives},var/lib/apt/lists/partial,var/cache/apt/archives/partial,var/tmp,var/log}
  chmod 1777 "$base/tmp" "$base/var/tmp"
  chmod 700 "$base/root"
  for package in bin sbin lib lib64; do ln -s "usr/$package" "$base/$package"; done
  # Files of the packages, by the names their lists have. What this machine leaves out (translations, manual pages) is left out.
  dpkg-query -L "${packages[@]}" | grep '^/' | grep -vE '^/(\.|bin|sbin|lib|lib64)?$|^/usr/share/(doc|man|locale|info|lintian)/' | sort -u |
    tar --create --no-recursion --ignore-failed-read --files-from=- -C / 2>/dev/null |
    tar --extract --keep-directory-symlink --preserve-permissions --same-owner -C "$base"
  # A new state of dpkg: those packages, all of them unpacked and none set up.
  for package in "${packages[@]}"; do
    cp -a "$info/$package".* "$info/$package:"*.* "$base$info/" 2>/dev/null || true
    dpkg-query -s "$package" | sed 's/^Status: .*/Status: install ok unpacked/; /^Config-Version: /d'
    echo
  done >"$base/var/lib/dpkg/status"
  cp -a "$info/format" "$base$info/"
  cp -a /var/lib/dpkg/arch "$base/var/lib/dpkg/" 2>/dev/null || true
  touch "$base/var/lib/dpkg/available" "$base/etc/fstab"
  : >"$base/etc/shells"
  printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
  chmod 755 "$base/usr/sbin/policy-rc.d"
  mknod -m 666 "$base/dev/null" c 1 3
  mknod -m 666 "$base/dev/zero" c 1 5
  mknod -m 666 "$base/dev/random" c 1 8
  mknod -m 666 "$base/dev/urandom" c 1 9
  mknod -m 666 "$base/dev/tty" c 5 0
  ln -s /proc/self/fd "$base/dev/fd"
  mkdir -m 1777 "$base/dev/shm"
  # As debootstrap does: what the first scripts need before anything is set up.
  ln -sf mawk "$base/usr/bin/awk"
  cp "$base/usr/share/base-passwd/passwd.master" "$base/etc/passwd"
  cp "$base/usr/share/base-passwd/group.master" "$base/etc/group"
  echo 127.0.0.1 localhost >"$base/etc/hosts"
  # All but PostgreSQL itself, which the test installs.
  local later="postgresql-$major" first=()
  for package in "${packages[@]}"; do [ "$package" = "$later" ] || first+=("$package"); done
  # shellcheck disable=SC2016  # the arguments are expanded in there
  unshare --mount sh -ec 'mount -t proc proc "$0/proc"; exec chroot "$0" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive dpkg --force-depends --configure "$@"' "$base" "${first[@]}"
}

# Two tests may begin at once.
mkdir -p "$(dirname "$cache")"
exec 9>"$cache.lock"
flock 9
state=$(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' | cat - "${BASH_SOURCE[0]}" | sha256sum | cut -c1-32)
if [ "$(cat "$cache/ready" 2>/dev/null || true)" != "$state" ]; then
  rm -rf --one-file-system "$cache"
  mkdir -p "$cache"
  make "$cache/base" >"$cache/log" 2>&1 || { tail -n 30 "$cache/log" >&2; exit 1; }
  echo "$state" >"$cache/ready"
fi
exec 9>&-
cp -a "$cache/base" "$dir"
