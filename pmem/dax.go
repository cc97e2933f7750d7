package pmem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Persistent memory proper: device DAX, a character device that is memory, and files of a file system that is mounted
// with DAX, whose pages are memory. What the kernel says about both is below /sys: Documentation/ABI/testing/sysfs-bus-dax
// and sysfs-bus-nvdimm.

// sysfs is a variable for tests.
var sysfs = "/sys"

// device is what the kernel says about a device-DAX device.
type device struct {
	size   uint64 // bytes
	align  uint64 // mappings are multiples of it
	domain Domain // None: the kernel knows of no way to make stores durable there
}

// deviceOf describes the character device f. Its error tells what f is instead of device DAX.
func deviceOf(f *os.File) (device, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return device{}, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/char", numbers(st.Rdev)))
	if err != nil {
		return device{}, fmt.Errorf("it is neither a regular file nor a device of device DAX: %w", err)
	}
	if bus, err := filepath.EvalSymlinks(filepath.Join(dir, "subsystem")); err != nil || filepath.Base(bus) != "dax" {
		return device{}, fmt.Errorf("it is neither a regular file nor a device of device DAX, but the character device %s", dir)
	}
	d := device{domain: domainAbove(dir)}
	if d.size, err = number(filepath.Join(dir, "size")); err != nil {
		return device{}, err
	}
	if d.align, err = number(filepath.Join(dir, "align")); errors.Is(err, fs.ErrNotExist) { // a kernel before 5.10
		d.align, err = number(filepath.Join(dir, "device/dax_region/align"))
	}
	if err != nil {
		return device{}, err
	}
	if d.align == 0 || d.align&(d.align-1) != 0 || d.size == 0 || d.size%d.align != 0 {
		return device{}, fmt.Errorf("%s says that it has %d bytes, aligned to %d: expected a multiple of a power of two", dir, d.size, d.align)
	}
	return d, nil
}

// domainAbove is the domain of the memory region to which the device at dir, a folder of sysfs, belongs: the region is one
// of the folders above it. None: there is no region, or it promises nothing.
func domainAbove(dir string) Domain {
	for ; len(dir) > len(sysfs); dir = filepath.Dir(dir) {
		text, err := os.ReadFile(filepath.Join(dir, "persistence_domain"))
		if err != nil {
			continue
		}
		switch strings.TrimSpace(string(text)) {
		case "cpu_cache":
			return EADR
		case "memory_controller":
			return ADR
		}
		return None
	}
	return None
}

// domainOfDAX is the domain of a file for which the kernel granted MAP_SYNC: that a store is durable when the program has
// flushed it is what MAP_SYNC means; whether even that is needed depends on the memory below the file system.
func domainOfDAX(f *os.File) Domain {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil {
		dir, err := filepath.EvalSymlinks(filepath.Join(sysfs, "dev/block", numbers(st.Dev)))
		if err == nil && domainAbove(dir) == EADR {
			return EADR
		}
	}
	return ADR
}

// mapSync maps n bytes of a file of a DAX file system such that its metadata are durable before a page can be written
// (mmap(2), MAP_SYNC). EOPNOTSUPP: it is not on one.
func mapSync(f *os.File, n uint64) ([]byte, error) {
	const flags = unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC
	return unix.Mmap(int(f.Fd()), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, flags)
}

// numbers are major:minor of a device, as folders of sysfs are called.
func numbers(dev uint64) string { return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)) }

// number reads a file of sysfs that holds one.
func number(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 0, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}
