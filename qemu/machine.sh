#!/usr/bin/env bash
# The virtual machine that qemu/run boots: QEMU's arguments, and whether KVM is
# any good here. To be sourced by qemu/run, after lib.sh, whose options it reads.
# shellcheck disable=SC2154  # qemu/run assigns them

# Fill the array "machine" from qemu/run's options.
machine_arguments() {
    local cpu=max,-erms,-fsrm boot
    boot="console=ttyS0 panic=-1 oops=panic mitigations=off no_timer_check cryptomgr.notests"
    machine=(-nodefaults -no-user-config -no-reboot -display none -M q35 -m "$mem" -smp "$smp")
    if [[ $icount ]]; then
        machine+=(-accel tcg -icount 'shift=0,sleep=off' -seed 42 -rtc 'base=2026-01-01,clock=vm')
        boot+=" nokaslr"
    else
        accel=$(choose_accel)
        if [[ $accel == tcg && ! ${LOGGERFS_ACCEL-} ]]; then
            progress "no usable KVM: the guest's processor is emulated; a boot takes about 15 s, and all in it 5 to 20 times as long"
        fi
        case $accel in
        kvm) machine+=(-accel kvm) cpu=host ;;
        *)
            machine+=(-accel 'tcg,thread=multi')
            # What an emulated processor is slow at. Above all, it translates a program anew for
            # every address that it comes to lie at: norandmaps halves the work of many programs.
            cpu+=,-la57,-pku boot+=" norandmaps init_on_alloc=0"
            # Its clock goes on while the machine that it runs on has no time for it, or stands still
            # for a snapshot: 20 s of that is no kernel that hangs.
            boot+=" watchdog_thresh=60"
            ;;
        esac
    fi
    machine+=(-cpu "$cpu" -kernel "$(kernel_image)" -initrd "$work/initrd" -append "$boot ${appends[*]-}"
        -chardev "file,id=console,path=$console" -serial chardev:console
        -device 'virtio-serial-pci,addr=2'
        -chardev "file,id=status,path=$work/status" -device 'virtserialport,chardev=status,name=status')
    [[ -z $out ]] || machine+=(-chardev "file,id=out,path=$work/out.tar" -device 'virtserialport,chardev=out,name=out')
    disk_arguments
    machine+=(${extra[@]+"${extra[@]}"})
}

kernel_image() { printf '%s\n' "${LOGGERFS_KERNEL_IMAGE:-$(dirname -- "$modules")/vmlinuz}"; }

# The root image first, then the user's disks in their order, the modules last:
# the guest names virtio disks by their PCI address.
disk_arguments() {
    local disk n=4 file
    add_disk 3 "$image" 'snapshot=on' root
    for disk in ${disks[@]+"${disks[@]}"}; do
        if [[ $disk =~ ^[0-9]+[KMGT]?$ && ! -e $disk ]]; then
            file=$work/disk$n
            truncate -s "$disk" "$file"
            add_disk "$n" "$file" 'cache=unsafe,discard=unmap' "scratch$n"
        else
            [[ -e $disk ]] || die "the disk $disk is neither a size such as 2G nor a file that exists."
            add_disk "$n" "$(realpath -- "$disk")" 'cache=writeback,discard=unmap' "scratch$n"
        fi
        n=$((n + 1))
    done
    file=$modules
    if [[ ${LOGGERFS_KERNEL_MODULES-} ]]; then
        file=$work/modules.img
        "$LFS_QEMU/pack-modules" "$LOGGERFS_KERNEL_MODULES" "$file"
    fi
    add_disk "$n" "$file" 'readonly=on' modules
}

# add_disk PCI-ADDRESS FILE OPTIONS SERIAL
add_disk() {
    machine+=(-drive "if=none,id=$4,format=raw,$3,file=${2//,/,,}"
        -device "$(printf 'virtio-blk-pci,addr=%x,drive=%s,serial=%s' "$1" "$4" "$4")")
}

# Print kvm or tcg. Whether KVM can run the stock kernel is found out by booting
# it, once for each start of this machine, QEMU version and user.
choose_accel() {
    local known key
    if [[ ${LOGGERFS_ACCEL-} ]]; then
        [[ $LOGGERFS_ACCEL == tcg || $LOGGERFS_ACCEL == kvm ]] || die "LOGGERFS_ACCEL must be tcg or kvm, not '$LOGGERFS_ACCEL'."
        printf '%s\n' "$LOGGERFS_ACCEL"
        return
    fi
    if [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
        echo tcg
        return
    fi
    key=$(hash_of /proc/sys/kernel/random/boot_id <<<"$(qemu-system-x86_64 --version) $EUID")
    known=$LFS_CACHE/accel-$key
    if [[ ! -s $known ]]; then
        probe_kvm >"$work/accel"
        cp -- "$work/accel" "$known" 2>/dev/null || known=$work/accel
    fi
    cat -- "$known"
}

probe_kvm() {
    local accel=tcg
    begin_step "trying whether KVM can boot the stock kernel" "at most 25 s, once"
    if LOGGERFS_ACCEL=kvm LOGGERFS_KERNEL_IMAGE='' LOGGERFS_KERNEL_MODULES='' \
        "$LFS_QEMU/run" --timeout 25 --mem 512 -- true >/dev/null 2>&1; then
        accel=kvm
    fi
    end_step_as "$accel is used"
    printf '%s\n' "$accel"
}
