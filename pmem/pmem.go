// Package pmem is persistent memory as a program sees it: bytes that are mapped, never move, and survive what their
// persistence domain says they survive.
//
// A store to such memory is visible to every thread at once but durable only later. [Memory.Persist] starts the way
// of a range to the persistence domain and [Memory.Fence] waits for it, so that the pair is what CLWB and SFENCE are
// on x86. Where the domain needs no flush (shared pages of a file survive the process without one) both cost nothing.
//
// Four implementations: [Map] maps a file, or persistent memory as a device; [Anonymous] maps memory that survives nothing;
// [Heap] is a twin on ordinary memory, for tests under the race detector,
// which does not see mapped memory; [Simulate] is the crash model, from which tests take the memory that a loss of
// power could have left.
//
// A mapped file that somebody shortens is a trap: touching a page that is gone raises SIGBUS, which ends the process.
// Under [Guard] or [Catch] it is an error that names the file.
//
// The package is for linux and little-endian machines. Domains that need a flush are for amd64.
package pmem

import "fmt"

// Domain says what a byte survives, and from which moment on.
type Domain uint8

const (
	// None: the memory is gone with the process.
	None Domain = iota
	// FileShared: shared pages of a file. A store survives the process as soon as it is made; it survives the
	// operating system only once the kernel has written the page back.
	FileShared
	// FileSynced: as FileShared, and durable after Sync.
	FileSynced
	// ADR: durable once a flushed line has reached the memory controller: Persist, then Fence.
	ADR
	// EADR: the caches are inside the domain. Durable once globally visible: Fence only.
	EADR
)

var domainNames = [...]string{"None", "FileShared", "FileSynced", "ADR", "EADR"}

// String is the name of the constant.
func (d Domain) String() string {
	if int(d) < len(domainNames) {
		return domainNames[d]
	}
	return fmt.Sprintf("Domain(%d)", uint8(d))
}

// WorthNT is the length, in bytes, from which on CopyNT may go past the cache: with shorter ones it stores and flushes as any thread
// does, so they are seen in their order. Going past it is faster from there on: a line and a fence take 190 ns so, 140 ns
// through it; eight lines 210 and 250 ns.
const WorthNT = 384

// Memory is a range of bytes that other threads, other processes and network cards may read and write too. It never
// moves and starts at a multiple of 64 bytes. Offsets are from its start; an offset outside it is a programming error
// and panics, as an index of a slice does.
//
// Any goroutine may call any method; no method that works on the memory (all but Sync) allocates or blocks. Persist and
// Fence belong together: what one goroutine persisted is waited for by the Fence of the same goroutine. (Should Go move
// it to another thread in between, the locked instructions of that switch wait for the flushes just as a Fence does.)
// Plain access through Bytes to a word that somebody else writes is a data race;
// such words go through Load64 and Store64.
type Memory interface {
	// Bytes is the whole memory. The slice stays valid until the memory is closed.
	Bytes() []byte
	// Domain says what Persist and Fence give.
	Domain() Domain
	// Persist starts the write-back of the lines of [off, off+n). It does not wait: Fence does.
	Persist(off, n uint64)
	// CopyNT copies src to off with stores that pass the cache by, where that helps; durable after Fence. Nothing is
	// atomic or ordered inside one copy. The source must not overlap the destination.
	CopyNT(off uint64, src []byte)
	// Fence waits until everything that this thread persisted before is inside the domain.
	Fence()
	// Load64 is an atomic load with acquire order of the little-endian word at off, a multiple of 8 (else it panics).
	Load64(off uint64) uint64
	// Store64 is an atomic store with release order of the word at off, a multiple of 8.
	Store64(off, v uint64)
	// Sync blocks, for milliseconds, until [off, off+n) is on stable storage (msync). Never call it on a shard's loop.
	Sync(off, n uint64) error
}
