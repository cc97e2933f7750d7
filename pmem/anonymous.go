package pmem

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// AnonymousMemory is mapped memory without a file: what a network card may be given that needs memory outside the Go heap
// and nothing that survives. Its domain is None.
type AnonymousMemory struct{ region }

var _ Memory = (*AnonymousMemory)(nil)

// Anonymous maps size zero bytes, from the start of a page on.
func Anonymous(size uint64) (*AnonymousMemory, error) {
	mem, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("pmem: mapping %d bytes: %w", size, err)
	}
	return &AnonymousMemory{region{mem: mem[:size:size], domain: None}}, nil
}

// Persist checks the range.
func (a *AnonymousMemory) Persist(off, n uint64) { _ = a.mem[off : off+n] }

// CopyNT is a plain copy.
func (a *AnonymousMemory) CopyNT(off uint64, src []byte) { copy(a.mem[off:off+uint64(len(src))], src) }

// Fence does nothing: there is nothing to wait for.
func (a *AnonymousMemory) Fence() {}

// Sync checks the range: there is no storage below it.
func (a *AnonymousMemory) Sync(off, n uint64) error {
	_ = a.mem[off : off+n]
	return nil
}

// Close unmaps it. Nobody uses it then.
func (a *AnonymousMemory) Close() error {
	if a.mem == nil {
		return fmt.Errorf("pmem: close: %w", os.ErrClosed)
	}
	mem := a.mem[:cap(a.mem)]
	a.mem = nil
	return unix.Munmap(mem)
}
