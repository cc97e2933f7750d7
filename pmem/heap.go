package pmem

// HeapMemory is ordinary memory with the methods of persistent memory: the twin for tests, above all under the race
// detector, which sees every access to it. Nothing in it survives the process, whatever domain it was told to report.
type HeapMemory struct{ region }

var _ Memory = (*HeapMemory)(nil)

// Heap is size zero bytes. Like make, it panics on a size that no memory has.
func Heap(size uint64) *HeapMemory { return HeapOf(size, None) }

// HeapOf is [Heap], reporting domain d, so that code which asks for the domain takes the path that it takes there.
func HeapOf(size uint64, d Domain) *HeapMemory {
	return &HeapMemory{region{mem: alignedBytes(size), domain: d}}
}

// Persist checks the range.
func (h *HeapMemory) Persist(off, n uint64) { _ = h.mem[off : off+n] }

// CopyNT is a plain copy.
func (h *HeapMemory) CopyNT(off uint64, src []byte) { copy(h.mem[off:off+uint64(len(src))], src) }

// Fence does nothing: there is nothing to wait for.
func (h *HeapMemory) Fence() {}

// Sync checks the range: there is no storage below the heap.
func (h *HeapMemory) Sync(off, n uint64) error {
	_ = h.mem[off : off+n]
	return nil
}
