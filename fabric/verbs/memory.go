package verbs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"whale/pmem"
)

// checkMemory says why a card must not be given n bytes of m, which are at addr.
func checkMemory(m pmem.Memory, addr uintptr, n uint64) error {
	f, ok := m.(interface {
		Name() string
		File() *os.File
	})
	if !ok {
		return checkMapped(addr, n)
	}
	// By its descriptor: a mapping goes by the name under which its file was opened, which may be gone.
	if err := checkFile(fmt.Sprintf("/proc/self/fd/%d", f.File().Fd())); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// checkMapped says why a card must not be given the memory of this process from addr on, n bytes long. The kernel pins the
// pages of a registration for as long as it lasts, which file systems on storage do not take part in: a file system with
// DAX (fsdax) may move a block under the card, and others would not notice what the card wrote.
func checkMapped(addr uintptr, n uint64) error {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	return checkMaps(maps, uint64(addr), uint64(addr)+n, checkFile)
}

// checkMaps reads lines of /proc/PID/maps (proc_pid_maps(5)) and asks check for the file of each that meets [from, to).
func checkMaps(maps io.Reader, from, to uint64, check func(path string) error) error {
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var start, end, offset, inode uint64
		var perms, dev string
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %s %d", &start, &end, &perms, &offset, &dev, &inode); err != nil {
			return fmt.Errorf("reading the process's mappings: %q: %w", line, err)
		}
		if end <= from || start >= to || inode == 0 {
			continue
		}
		at := strings.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		if err := check(line[at:]); err != nil {
			return fmt.Errorf("%s: %w", line[at:], err)
		}
	}
	return lines.Err()
}

// checkFile says why a mapped file cannot be registered. What it cannot look at is the kernel's to refuse.
func checkFile(path string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BASIC_STATS, &st); err != nil {
		return nil // deleted, or a memfd
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		bus, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/char/%d:%d/subsystem", st.Rdev_major, st.Rdev_minor))
		if name := filepath.Base(bus); err == nil && name != "dax" && name != "mem" {
			return fmt.Errorf("a device of the kind %s; expected device DAX (/dev/daxX.Y)", name)
		}
		return nil
	case unix.S_IFREG:
	default:
		return nil
	}
	if st.Attributes&unix.STATX_ATTR_DAX != 0 {
		return fmt.Errorf("a file on a file system with DAX (fsdax), which may move its blocks while a card writes them: " +
			"use device DAX instead (ndctl create-namespace -m devdax), or a file on tmpfs if it need not survive the power")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return nil
	}
	if fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.HUGETLBFS_MAGIC {
		return fmt.Errorf("a file on storage (file system type %#x), which does not take part in what a card writes: "+
			"use device DAX (/dev/daxX.Y), or a folder on tmpfs (/dev/shm) if it need not survive the power", fs.Type)
	}
	return nil
}
