#!/usr/bin/env bash
# device_libraries.sh FOLDER: prints the flags with which clang finds the device libraries for all targets; none for a
# ROCm that knows them. Debian's (5.2) are older than gfx942 and gfx1100, and lack one constant of each: the number of
# the instruction set. FOLDER gets links to Debian's files and those two.
set -euo pipefail
folder=$1
[ -d /opt/rocm/amdgcn/bitcode ] && exit 0
source=/usr/lib/x86_64-linux-gnu/amdgcn/bitcode
[ -d "$source" ] || { echo "no device libraries in /opt/rocm or $source: apt-get install rocm-device-libs" >&2; exit 1; }
mkdir -p "$folder"
ln -sf "$source"/*.bc "$folder"
for target in 942:9402 1100:11000; do
  out=$folder/oclc_isa_version_${target%:*}.bc
  [ -e "$source/${out##*/}" ] && continue
  {
    llvm-dis-19 <"$source/oclc_isa_version_90a.bc" | grep '^target'
    echo "@__oclc_ISA_version = linkonce_odr protected local_unnamed_addr addrspace(4) constant i32 ${target#*:}, align 4"
  } | llvm-as-19 -o "$out"
done
echo "--rocm-device-lib-path=$folder"
