package shm

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"whale/fabric/internal/words"
	"whale/pmem"
)

const maxSend = 64 << 10 // bytes of one message

// inbox is one end of the ring of messages on a line. Each end trusts its own position and checks the other's.
type inbox struct {
	file  *pmem.File
	words *inboxWords
	ring  unsafe.Pointer
	at    uint64 // receiver: head; sender: tail
}

// newInbox is the inbox in m, which has its size.
func newInbox(m *pmem.File) inbox {
	base := unsafe.Pointer(unsafe.SliceData(m.Bytes()))
	return inbox{file: m, words: (*inboxWords)(base), ring: unsafe.Add(base, inboxData)}
}

// put sends n bytes from src. False: there is no room; the receiver will ring when it has made some. An error says that
// the receiver's word is nonsense.
func (b *inbox) put(src unsafe.Pointer, n uint64) (bool, error) {
	need := 8 + padded(n)
	ok, err := b.room(need)
	if !ok && err == nil {
		b.words.waiting.Swap(1) // full fence: either room is seen now, or the receiver sees the flag
		ok, err = b.room(need)
	}
	if !ok || err != nil {
		return false, err
	}
	*(*uint64)(unsafe.Add(b.ring, b.at%inboxRing)) = n
	from := (b.at + 8) % inboxRing
	first := min(n, inboxRing-from)
	words.Copy(unsafe.Add(b.ring, from), src, first)
	if first < n {
		words.Copy(b.ring, unsafe.Add(src, first), n-first)
	}
	b.at += need
	b.words.tail.Store(b.at)
	return true, nil
}

func (b *inbox) room(need uint64) (bool, error) {
	used := b.at - b.words.head.Load()
	if used > inboxRing {
		return false, fmt.Errorf("%s: %d bytes in a ring of %d", b.file.Name(), used, inboxRing)
	}
	return inboxRing-used >= need, nil
}

// next is the length of the next message, or false if there is none. Nothing that the sender wrote is believed beyond
// its bounds.
func (b *inbox) next() (n uint64, ok bool, err error) {
	have := b.words.tail.Load() - b.at
	if have == 0 {
		return 0, false, nil
	}
	if have > inboxRing || have%8 != 0 {
		return 0, false, fmt.Errorf("%s: %d bytes in a ring of %d", b.file.Name(), have, inboxRing)
	}
	n = atomic.LoadUint64((*uint64)(unsafe.Add(b.ring, b.at%inboxRing)))
	if n > maxSend || 8+padded(n) > have {
		return 0, false, fmt.Errorf("%s: a message of %d bytes where %d are left", b.file.Name(), n, have-8)
	}
	return n, true, nil
}

// take copies the next message, of n bytes as next said, to dst. True: the sender waits for the room, ring it.
func (b *inbox) take(dst unsafe.Pointer, n uint64) (waiting bool) {
	from := (b.at + 8) % inboxRing
	first := min(n, inboxRing-from)
	words.Copy(dst, unsafe.Add(b.ring, from), first)
	if first < n {
		words.Copy(unsafe.Add(dst, first), b.ring, n-first)
	}
	b.at += 8 + padded(n)
	b.words.head.Swap(b.at) // full fence: see put
	return b.words.waiting.Load() != 0 && b.words.waiting.Swap(0) != 0
}
