package shm

import (
	"sync/atomic"
	"unsafe"
)

// The layout of the files, word by word. "Owner" is the process that has the endpoint open, "peer" the process at the
// other end of a connection. Words are in the byte order of the machine, which all who can map the file share. A word
// that a peer writes is checked by the owner before it is trusted, and the other way round.

const (
	magic   = 0x4d48532e656c6857 // "Whle.SHM": the owner stores it last when it makes the file
	version = 1

	lines      = 256  // incoming connections of an endpoint
	keyBits    = 10   // of a key: its entry in the table; the others are a serial number
	keyEntries = 1024 // registrations of an endpoint
	keyMask    = keyEntries - 1
	pathMax    = 464 // bytes of the path of a registered file

	controlSize = uint64(unsafe.Sizeof(control{}))

	inboxRing = 512 << 10 // bytes of messages and their headers
	inboxSize = inboxData + inboxRing
	inboxData = uint64(unsafe.Sizeof(inboxWords{}))
)

// control is the control file.
type control struct {
	header                        // offset 0
	doorbell doorbell             // offset 64
	_        [4096 - 128]byte     //
	lines    [lines]line          // offset 4096
	keys     [keyEntries]keyEntry // offset 20480
}

// header: all written by the owner, in Open, under the lock of the file.
type header struct {
	magic   atomic.Uint64    // 0 while the file is being made
	version atomic.Uint64    //
	serial  atomic.Uint64    // of the newest key; only grows, and starts at random, so that a folder made anew repeats none
	pid     atomic.Uint64    // of the owner
	start   atomic.Uint64    // and when it started, in clock ticks since boot
	boot    [2]atomic.Uint64 // boot id of the machine: of an earlier boot no process is left
	_       uint64
}

// doorbell: one cache line, because ringing touches both words.
type doorbell struct {
	rings  atomic.Uint64 // peers add 1, and then look at parked; only grows
	parked atomic.Uint64 // owner: 1 from before it looks at rings for the last time until it is awake
	_      [48]byte
}

// line is a peer's way in. The owner gives it away while setting up a connection.
type line struct {
	gen   atomic.Uint64 // owner: odd while the connection lives, even when it is closed; only grows
	busy  atomic.Uint64 // peer: odd while it is inside an operation; only grows, and the owner adds to it between two peers
	pid   atomic.Uint64 // owner: process of the peer
	start atomic.Uint64 // owner: and when that started
	_     [32]byte
}

// keyEntry is a registration. The owner writes key last and clears it first; a peer that reads the same key before and
// after the other words has read what belongs together.
type keyEntry struct {
	key    atomic.Uint64 // serial<<keyBits | index of the entry; 0: none
	off    uint64        // of the registration in the file
	n      uint64        // bytes
	dev    uint64        // device and
	ino    uint64        // inode of the file, should the path name another one by now
	rights uint8
	domain uint8 // pmem.Domain that the owner declared
	length uint16
	_      uint32
	path   [pathMax]byte
}

// inboxWords is the head of an inbox; inboxRing bytes follow it. A message is its length, a word, and its bytes, padded
// to whole words; a message that does not fit before the end of the ring goes on at its start.
type inboxWords struct {
	tail    atomic.Uint64 // peer: bytes ever put in; only grows during a connection
	_       [56]byte      //
	head    atomic.Uint64 // owner: bytes ever taken out
	_       [56]byte      //
	waiting atomic.Uint64 // peer: 1 when it found no room; the owner clears it and rings
	_       [56]byte
}

func odd(word uint64) bool { return word&1 != 0 }

// padded is n rounded up to whole words.
func padded(n uint64) uint64 { return (n + 7) &^ 7 }
