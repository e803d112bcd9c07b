#!/usr/bin/env bash
# Prints the prefix under which CMake finds GoogleTest, fetching the library when the machine has none.
#
#   find_gtest.sh FOLDER
#
# In this order: $GTEST_ROOT or the system's library; as root, Debian's package; otherwise the same package unpacked into
# FOLDER, which needs no rights. Only the prefix goes to stdout; progress goes to stderr.
set -euo pipefail

folder=${1:?usage: find_gtest.sh FOLDER}
package=libgtest-dev

say() { echo "find_gtest: $*" >&2; }

# Prints the first given prefix that holds a GoogleTest which CMake's find_package can load.
first_usable() {
  local prefix
  for prefix in "$@"; do
    [ -n "$prefix" ] || continue
    if compgen -G "$prefix/lib*/cmake/GTest/GTestConfig.cmake" >/dev/null ||
      compgen -G "$prefix/lib/*/cmake/GTest/GTestConfig.cmake" >/dev/null; then
      echo "$prefix"
      return 0
    fi
  done
  return 1
}

install_as_root() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing $package"
  # A fresh machine has no package lists; one that has stale lists is helped by the update too.
  apt-get update >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >&2
}

# apt keeps its lists in FOLDER here, so neither root nor lists of the system are needed.
unpack_into_folder() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
  say "unpacking $package into $folder"
  mkdir -p "$folder/lists/partial" "$folder/archives/partial"
  local options=(-o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder" -o "Dir::Cache::Archives=$folder/archives"
    -o "Debug::NoLocking=1" -o "APT::Sandbox::User=")
  apt-get "${options[@]}" update >&2 && (cd "$folder" && apt-get "${options[@]}" download "$package" >&2) || return 1
  local archive
  for archive in "$folder"/"$package"_*.deb; do dpkg -x "$archive" "$folder"; done
  rm -rf "$folder/lists" "$folder/archives" "$folder"/*.deb "$folder"/*.bin
}

folder=$(mkdir -p "$folder" && cd "$folder" && pwd)
known() { first_usable "${GTEST_ROOT:-}" /usr/local /usr "$folder/usr"; }

known && exit 0
install_as_root && known && exit 0
unpack_into_folder && known && exit 0
say "GoogleTest was not found and could not be fetched. Install it ($package on Debian and Ubuntu, gtest-devel on Fedora," \
  "googletest with brew) or set GTEST_ROOT to the prefix where it is installed."
exit 1
