#!/usr/bin/env bash
# How a Debian 13 tree is made from this machine's own apt configuration: its
# mirror, its proxy, its certificates. Used for the build root and the guest.
# To be sourced after lib.sh.

# Change this when bootstrap() makes something different from the same lists.
LFS_BOOTSTRAP_VERSION=1
# Change this when qemu/kernel makes something different from the same packages.
LFS_KERNEL_VERSION=1
# The same for what it does after the preparation, to the image and its modules.
# shellcheck disable=SC2034  # qemu/kernel and qemu/guest use it
LFS_BOOT_VERSION=2
LFS_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

need_debian_tools() {
    need_host_packages mmdebstrap=mmdebstrap "debian-archive-keyring=$LFS_KEYRING" ca-certificates=/etc/ssl/certs/ca-certificates.crt
}

# The cache path of the build root that the present package list asks for.
buildroot_path() {
    local key
    key=$(hash_of "$LFS_QEMU/packages-build" <<<"$LFS_SUITE $LFS_BOOTSTRAP_VERSION")
    printf '%s/buildroot-%s\n' "$LFS_CACHE" "$key"
}

# The same for the build root that has the debug kernel's compiler too.
debug_root_path() {
    local key
    key=$(hash_of "$LFS_QEMU/packages-build" "$LFS_QEMU/packages-debug" <<<"$LFS_SUITE $LFS_BOOTSTRAP_VERSION")
    printf '%s/buildroot-debug-%s\n' "$LFS_CACHE" "$key"
}

# The Debian mirror: LOGGERFS_MIRROR, or the first one among apt's sources.
# shellcheck disable=SC2016  # apt-get itself expands $(LABEL) and $(REPO_URI)
debian_mirror() {
    local uri
    uri=${LOGGERFS_MIRROR-}
    [[ $uri ]] || uri=$(apt_sites '$(LABEL) $(REPO_URI)' | sed -n 's/^Debian //p' | head -n 1) || true
    # Before the first "apt-get update" no label is known: go by the path.
    [[ $uri ]] || uri=$(apt_sites '$(REPO_URI)' | grep -E '/debian/?$' | head -n 1) || true
    [[ $uri ]] || die "no Debian mirror is among this machine's apt sources; set LOGGERFS_MIRROR to the URL of one."
    printf '%s\n' "${uri%/}"
}

apt_sites() { apt-get indextargets --format "$1" 'Identifier: Packages' 2>/dev/null || true; }

# sources.list lines for the new tree; "backports" adds the kernels' suite.
debian_sources() {
    local mirror suite
    mirror=$(debian_mirror)
    for suite in "$LFS_SUITE" "$LFS_SUITE-updates" ${1:+"$LFS_SUITE-backports"}; do
        printf 'deb [signed-by=%s] %s %s main\n' "$LFS_KEYRING" "$mirror" "$suite"
    done
}

# This machine's apt settings for reaching a mirror (proxy, certificates,
# clock checks), in the form of apt.conf.
host_apt_settings() {
    apt-config dump | grep -E '^Acquire::(https?|ftp|Check-|Retries|ForceIPv|proxy)[^"]* "[^"]+";$' || true
}

# Stop unless the mirror answers, by apt's own way there.
need_mirror() {
    local mirror file
    mirror=$(debian_mirror)
    file=$(mktemp -d)
    if ! /usr/lib/apt/apt-helper download-file "$mirror/dists/$LFS_SUITE/InRelease" "$file/InRelease" >/dev/null 2>&1; then
        rm -rf -- "$file"
        die "cannot reach $LFS_SUITE on the Debian mirror $mirror; check the network and apt's proxy settings, or set LOGGERFS_MIRROR to a mirror that answers."
    fi
    rm -rf -- "$file"
}

# Point the apt inside DIR at today's mirror, with today's settings.
refresh_apt() {
    rm -f -- "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
    debian_sources backports >"$1/etc/apt/sources.list"
    {
        host_apt_settings
        printf 'Acquire::Languages "none";\nAcquire::Retries "3";\n'
    } >"$1/etc/apt/apt.conf.d/99mmdebstrap"
}

# bootstrap DIR VARIANT PACKAGE-FILE [backports]: a Debian tree with signatures checked.
bootstrap() {
    local dir=$1 variant=$2 packages=$3 backports=${4-} settings sources
    settings=$(mktemp)
    sources=$(mktemp)
    host_apt_settings >"$settings"
    printf 'Acquire::Languages "none";\nAcquire::Retries "3";\n' >>"$settings"
    debian_sources "$backports" >"$sources"
    # In namespaces of its own: a killed run leaves neither mounts nor processes.
    unshare --mount --pid --fork --kill-child --mount-proc -- \
        mmdebstrap --mode=root --variant="$variant" --architectures="$LFS_ARCH" \
        --include="$(package_list "$packages")" --aptopt="$settings" \
        --keyring="$LFS_KEYRING" --include=ca-certificates \
        --setup-hook="mkdir -p \"\$1/usr/share/keyrings\" && cp $LFS_KEYRING \"\$1/usr/share/keyrings/\"" \
        --skip=cleanup/apt/lists "$LFS_SUITE" "$dir" "$sources"
    rm -f "$settings" "$sources"
    # The certificates this machine trusts, for a mirror or registry behind its own authority.
    cp -L /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/ca-certificates.crt"
}

# pack_image TREE IMAGE SIZE: the tree as a guest's root image; the tree goes.
# The image is larger than its contents, so that tests can install and write.
pack_image() {
    rm -rf -- "$1/var/cache/apt" "$1/var/lib/apt/lists" "$1/var/log/"*.log
    mkdir -p "$1/job" "$1/out" "$1/usr/lib/modules"
    printf 'loggerfs\n' >"$1/etc/hostname"
    PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$1" -F "$2" "$3"
    rm -rf --one-file-system -- "$1"
}

# kernel_dir_name "VERSION RELEASE": the cache name of that stock kernel, prepared
# with the present build root.
kernel_dir_name() {
    local version release key
    read -r version release <<<"$1"
    key=$(hash_of "$LFS_QEMU/packages-build" <<<"$LFS_SUITE $LFS_BOOTSTRAP_VERSION $LFS_KERNEL_VERSION $version")
    printf 'kernel-%s-%s\n' "$release" "$key"
}
