package plog

import (
	"fmt"

	"github.com/zeebo/xxh3"
)

// Record is one write in the log. Its bytes never change once they are written.
type Record struct {
	Kind     Kind
	GroupEnd bool   // the last record of its command
	Epoch    uint32 // in which it was appended
	Seq      uint64
	Prev     uint64 // arena offset of the key's older version, 0: none
	Deadline int64  // unix time in ms at which the key expires, 0: never
	Client   uint64 // who asked, and the number of the request; 0: unknown
	Request  uint64
	Key      []byte
	Value    []byte
}

// Layout of a record, byte offsets. Key and value follow the header, then zeros up to a multiple of 8.
const (
	recCheck    = 0 // crc32c of [4, Len)
	recKind     = 4
	recMarks    = 5
	recSpare    = 6 // zero
	recSeq      = 8
	recEpoch    = 16
	recKeyLen   = 20
	recValLen   = 24
	recSpare2   = 28 // zero
	recPrev     = 32
	recDeadline = 40
	recClient   = 48
	recRequest  = 56
)

const markGroupEnd = 1 // bit 0 of recMarks

// RecordSize is the length, without padding, of a record with a key and a value of that many bytes.
func RecordSize(key, value int) uint64 { return RecordHeaderSize + uint64(key) + uint64(value) }

// HashKey is the hash that slots and the index use: XXH3, 64 bits, but never 0, which is the hash of FlushAll.
func HashKey(key []byte) uint64 {
	if h := xxh3.Hash(key); h != 0 {
		return h
	}
	return 1
}

// RecordError says why bytes are not a record.
type RecordError struct {
	Reason string
	Want   uint32 // the checksum that is stored
	Got    uint32 // the checksum of the bytes; of the header alone if the lengths make no sense
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("plog: not a record: %s (checksum stored %08x, computed %08x)", e.Reason, e.Want, e.Got)
}

// DecodeRecord reads the record at the start of b and returns its length without padding. Key and Value alias b. It
// checks bounds, checksum and format; an error is a *RecordError.
func DecodeRecord(b []byte) (Record, int, error) {
	r, n, ok := PeekRecord(b)
	if !ok {
		return Record{}, 0, outOfBounds(b)
	}
	want, got := le.Uint32(b[recCheck:]), checksum(b[recKind:n])
	switch {
	case want != got:
		return Record{}, 0, &RecordError{"the checksum is wrong", want, got}
	case !wellFormed(b):
		return Record{}, 0, &RecordError{"a kind or mark that this version does not know, or a flush-all with a key", want, got}
	}
	return r, n, nil
}

// wellFormed says whether the header has nothing in it that no Append writes.
func wellFormed(b []byte) bool {
	kind := Kind(b[recKind])
	return kind.valid() && b[recMarks]&^markGroupEnd == 0 && le.Uint16(b[recSpare:]) == 0 && le.Uint32(b[recSpare2:]) == 0 &&
		(kind != FlushAll || le.Uint32(b[recKeyLen:]) == 0)
}

func outOfBounds(b []byte) *RecordError {
	if len(b) < RecordHeaderSize {
		return &RecordError{Reason: fmt.Sprintf("%d bytes, shorter than a header", len(b))}
	}
	return &RecordError{
		Reason: fmt.Sprintf("a key of %d and a value of %d bytes where only %d are left", le.Uint32(b[recKeyLen:]), le.Uint32(b[recValLen:]), len(b)-RecordHeaderSize),
		Want:   le.Uint32(b[recCheck:]), Got: checksum(b[recKind:RecordHeaderSize]),
	}
}

// PeekRecord reads a record without its checksum, for walking what has been verified already. False: it does not fit
// into b.
func PeekRecord(b []byte) (Record, int, bool) {
	if len(b) < RecordHeaderSize {
		return Record{}, 0, false
	}
	n := RecordSize(int(le.Uint32(b[recKeyLen:])), int(le.Uint32(b[recValLen:])))
	if n > uint64(len(b)) {
		return Record{}, 0, false
	}
	value := RecordHeaderSize + int(le.Uint32(b[recKeyLen:]))
	return Record{
		Kind:     Kind(b[recKind]),
		GroupEnd: b[recMarks]&markGroupEnd != 0,
		Epoch:    le.Uint32(b[recEpoch:]),
		Seq:      le.Uint64(b[recSeq:]),
		Prev:     le.Uint64(b[recPrev:]),
		Deadline: int64(le.Uint64(b[recDeadline:])),
		Client:   le.Uint64(b[recClient:]),
		Request:  le.Uint64(b[recRequest:]),
		Key:      b[RecordHeaderSize:value:value],
		Value:    b[value:n:n],
	}, int(n), true
}

// put writes the record, padding included, to b but for its first word, which it returns: a reader takes the bytes for a
// record only once that is stored.
func (r *Record) put(b []byte) (first uint64) {
	var marks uint64
	if r.GroupEnd {
		marks = markGroupEnd
	}
	n := RecordSize(len(r.Key), len(r.Value))
	_ = b[:pad(n)]
	le.PutUint64(b[pad(n)-8:], 0) // the padding; what it overwrites besides is written below
	first = uint64(r.Kind)<<(8*recKind) | marks<<(8*recMarks)
	le.PutUint64(b, first)
	le.PutUint64(b[recSeq:], r.Seq)
	le.PutUint32(b[recEpoch:], r.Epoch)
	le.PutUint32(b[recKeyLen:], uint32(len(r.Key)))
	le.PutUint32(b[recValLen:], uint32(len(r.Value)))
	le.PutUint32(b[recSpare2:], 0)
	le.PutUint64(b[recPrev:], r.Prev)
	le.PutUint64(b[recDeadline:], uint64(r.Deadline))
	le.PutUint64(b[recClient:], r.Client)
	le.PutUint64(b[recRequest:], r.Request)
	copy(b[RecordHeaderSize:], r.Key)
	copy(b[RecordHeaderSize+len(r.Key):], r.Value)
	return first | uint64(checksum(b[recKind:n]))
}

// hash is what a slot says of the record's key.
func (r *Record) hash() uint64 {
	if r.Kind == FlushAll {
		return 0
	}
	return HashKey(r.Key)
}

// flags is what a slot says of the record, Direct aside.
func (r *Record) flags() Flags {
	if r.GroupEnd {
		return Flags(r.Kind) | GroupEnd
	}
	return Flags(r.Kind)
}

// rec names the record at that arena offset.
func (r *Record) rec(off uint64, n int, sum uint32) Rec {
	return Rec{Seq: r.Seq, Hash: r.hash(), Off: off, Len: uint32(n), Sum: sum, Flags: r.flags()}
}
