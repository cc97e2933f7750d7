//go:build !race

package store

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve returns n zeroed words outside the Go heap. Only address space is taken; a page costs memory once it is
// touched. The words are given back when owner is collected, so whoever reads them must keep owner alive.
func reserve[T any](owner *T, n uint64) ([]uint64, error) {
	mem, err := unix.Mmap(-1, 0, int(n*8), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("store: reserving %d bytes of address space for the index: %w; raise the address space "+
			"limit (ulimit -v) or use a smaller arena", n*8, err)
	}
	// A lookup touches one line anywhere: with pages of 4 KiB finding the page costs as much as the line. Where the kernel
	// has no large pages to give, nothing is lost. A small index is made sooner without them: each is cleared as a whole.
	if len(mem) >= 64<<20 {
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	}
	runtime.AddCleanup(owner, func(mem []byte) { _ = unix.Munmap(mem) }, mem)
	return unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), n), nil
}
