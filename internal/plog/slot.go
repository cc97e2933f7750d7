package plog

import (
	"sync/atomic"
	"unsafe"

	"whale/pmem"
)

// Kind says what a record does.
type Kind uint8

const (
	Put       Kind = 1 // the key has the value
	Tombstone Kind = 2 // the key is absent
	FlushAll  Kind = 3 // every key is absent; the record has no key
)

func (k Kind) valid() bool { return k >= Put && k <= FlushAll }

func (k Kind) String() string {
	switch k {
	case Put:
		return "put"
	case Tombstone:
		return "tombstone"
	case FlushAll:
		return "flush-all"
	}
	return "unknown kind"
}

// Flags of a slot: the kind in the low 8 bits, marks above.
type Flags uint32

const (
	// GroupEnd: the last record of a command. A record alone is a group of one and carries it too.
	GroupEnd Flags = 1 << 8
	// Direct: P sends the bytes to every member itself; the chain need not. It is of the slot, not of the record.
	Direct Flags = 1 << 9

	knownFlags = 0xff | GroupEnd | Direct
)

// Kind is what the record does.
func (f Flags) Kind() Kind { return Kind(f) }

// Has says whether all marks of x are set.
func (f Flags) Has(x Flags) bool { return f&x == x }

// Rec names a record: what a slot says of it.
type Rec struct {
	Seq   uint64
	Hash  uint64 // HashKey of the key; 0 for FlushAll
	Off   uint64 // arena offset
	Len   uint32 // bytes: header, key, value; not the padding
	Sum   uint32 // the record's checksum
	Flags Flags
}

// End is the arena offset behind the record and its padding.
func (r Rec) End() uint64 { return r.Off + pad(uint64(r.Len)) }

// Slot is an entry of the metadata ring: a record, and the watermarks that ride along.
type Slot struct {
	Rec
	S, DW uint64 // plain seqs, of Epoch
	Epoch uint32 // of the view that posts the slot; the record may be of an older one
}

// Layout of a slot, byte offsets.
const (
	slotSeq   = 0
	slotHash  = 8
	slotOff   = 16
	slotS     = 24
	slotDW    = 32
	slotEpoch = 40
	slotLen   = 44
	slotSum   = 48
	slotFlags = 52
	slotSpare = 56 // zero
	slotCheck = 60 // crc32c of [0, 60)
)

// Encode writes the slot's 64 bytes to b.
func (s *Slot) Encode(b []byte) { s.encode((*[SlotSize]byte)(b)) }

func (s *Slot) encode(b *[SlotSize]byte) {
	le.PutUint64(b[slotSeq:], s.Seq)
	le.PutUint64(b[slotHash:], s.Hash)
	le.PutUint64(b[slotOff:], s.Off)
	le.PutUint64(b[slotS:], s.S)
	le.PutUint64(b[slotDW:], s.DW)
	le.PutUint32(b[slotEpoch:], s.Epoch)
	le.PutUint32(b[slotLen:], s.Len)
	le.PutUint32(b[slotSum:], s.Sum)
	le.PutUint32(b[slotFlags:], uint32(s.Flags))
	le.PutUint32(b[slotSpare:], 0)
	le.PutUint32(b[slotCheck:], checksumLocal(b, slotCheck))
}

// DecodeSlot reads a slot from the first 64 bytes of b, which nobody writes meanwhile (else: LoadSlot). False: too short, a wrong checksum, or flags of an unknown
// format. A slot that decodes may still be of another seq or epoch, and its offset may be out of bounds: Log.Verify
// checks what it names.
func DecodeSlot(b []byte) (s Slot, ok bool) {
	if len(b) >= SlotSize {
		ok = s.decode((*[SlotSize]byte)(b))
	}
	return s, ok
}

// decode leaves s as it is if the slot is not valid.
func (s *Slot) decode(b *[SlotSize]byte) bool {
	flags := Flags(le.Uint32(b[slotFlags:]))
	if le.Uint32(b[slotCheck:]) != checksumLocal(b, slotCheck) ||
		flags&^knownFlags != 0 || !flags.Kind().valid() || le.Uint32(b[slotSpare:]) != 0 {
		return false
	}
	s.Seq = le.Uint64(b[slotSeq:])
	s.Hash = le.Uint64(b[slotHash:])
	s.Off = le.Uint64(b[slotOff:])
	s.Len = le.Uint32(b[slotLen:])
	s.Sum = le.Uint32(b[slotSum:])
	s.Flags = flags
	s.S = le.Uint64(b[slotS:])
	s.DW = le.Uint64(b[slotDW:])
	s.Epoch = le.Uint32(b[slotEpoch:])
	return true
}

// LoadSlot reads the slot at memory offset off, a multiple of 8, while somebody may be writing it: eight atomic loads
// into a copy, and what is half old and half new fails the checksum.
func LoadSlot(m pmem.Memory, off uint64) (s Slot, ok bool) {
	words := wordsAt(m, off)
	var aligned [SlotSize / 8]uint64
	b := (*[SlotSize]byte)(unsafe.Pointer(&aligned))
	for i := range words {
		le.PutUint64(b[8*i:], atomic.LoadUint64(&words[i]))
	}
	ok = s.decode(b)
	return s, ok
}

// StoreSlot writes a slot at memory offset off, a multiple of 8, while others may be reading it by LoadSlot.
func StoreSlot(m pmem.Memory, off uint64, s *Slot) {
	var aligned [SlotSize / 8]uint64 // the checksum of bytes across words just stored would wait for the store buffer
	b := (*[SlotSize]byte)(unsafe.Pointer(&aligned))
	s.encode(b)
	storeWords(wordsAt(m, off), b)
}

// wordsAt is the slot at off as words. The slice expression checks the bounds; pmem.Memory promises the alignment.
func wordsAt(m pmem.Memory, off uint64) *[SlotSize / 8]uint64 {
	b := m.Bytes()[off : off+SlotSize]
	return (*[SlotSize / 8]uint64)(unsafe.Pointer(&b[0]))
}
