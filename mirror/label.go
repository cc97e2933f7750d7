package mirror

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"whale/pmem"
)

// HeadSize is how many bytes at the start of the memory, on every side, belong to this package. The region that programs see
// follows it.
const HeadSize = 4096

// The label, little-endian, at the start of the memory. All but the state is written once, when the region is made.
//
//	0   magic 8
//	8   version 4, zero 4
//	16  id 16          the same at all copies of a region
//	32  size 8         of the memory
//	40  crc32c 4       of [0, 40)
//	64  state 8        a word of its own, stored whole: see State
//	72  boot 16        of the copy's machine, see pmem.Boot: in which it became what the state says
const (
	labelMagic   = 0x524f5252494d4857 // "WHMIRROR"
	labelVersion = 1
	labelSum     = 40
	labelEnd     = 48
	stateOff     = 64
	bootOff      = 72
)

// ID names a region: all its copies have the same.
type ID [16]byte

// String is in hexadecimal.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Condition is what a copy is good for.
type Condition uint8

const (
	// Blank: nothing was ever here.
	Blank Condition = iota
	// Opened: a primary writes, or wrote until it ended. The copy may be opened, and is then recovered by what wrote it.
	Opened
	// Clean: the primary closed the region. Copies of the same state are the same bytes.
	Clean
	// Filling: a primary was copying the region here and has not finished. The copy is of no use.
	Filling
)

var conditionNames = [...]string{"blank", "open", "clean", "filling"}

// String is the name of the constant, in small letters.
func (c Condition) String() string {
	if int(c) < len(conditionNames) {
		return conditionNames[c]
	}
	return fmt.Sprintf("Condition(%d)", uint8(c))
}

// State is the changing word of the label. The generation grows when a copy becomes the primary's and when the primary goes on
// without a mirror, so the greater of two is the newer copy. The tag is drawn with each generation: two copies of one
// generation with different tags have been written to independently.
type State struct {
	Generation uint32 // below 1<<24
	Tag        uint32
	Condition  Condition
}

const maxGeneration = 1<<24 - 1

func (s State) word() uint64 {
	return uint64(s.Generation)<<40 | uint64(s.Tag)<<8 | uint64(s.Condition)
}

func stateOf(word uint64) State {
	return State{Generation: uint32(word >> 40), Tag: uint32(word >> 8), Condition: Condition(word)}
}

// String is as "generation 3 (open)".
func (s State) String() string { return fmt.Sprintf("generation %d (%v)", s.Generation, s.Condition) }

// sameWrites says that the two copies have followed the same primary.
func (s State) sameWrites(o State) bool { return s.Generation == o.Generation && s.Tag == o.Tag }

// next is the state of a copy that begins a generation.
func (s State) next() (State, error) {
	if s.Generation == maxGeneration {
		return State{}, errors.New("mirror: the region has used up its generations: copy its contents to a new one")
	}
	var tag [4]byte
	if _, err := rand.Read(tag[:]); err != nil {
		return State{}, err
	}
	return State{Generation: s.Generation + 1, Tag: binary.LittleEndian.Uint32(tag[:]), Condition: Opened}, nil
}

// Label is what the head of a copy says.
type Label struct {
	ID    ID
	Size  uint64 // bytes of the memory
	State State
	boot  [2]uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Inspect reads the label of a copy and changes nothing. A memory that was never used has a zero label, whose condition is
// Blank. Errors: something else is there; another version of the format; a damaged label, or one of another size.
func Inspect(m pmem.Memory) (Label, error) {
	b := m.Bytes()
	if len(b) <= HeadSize || len(b)%64 != 0 {
		return Label{}, fmt.Errorf("mirror: a memory of %d bytes; expected a multiple of 64 above %d, for the label alone takes that", len(b), HeadSize)
	}
	if blank(b[:HeadSize]) {
		return Label{Size: uint64(len(b))}, nil
	}
	le := binary.LittleEndian
	switch magic := le.Uint64(b); {
	case magic != labelMagic:
		return Label{}, fmt.Errorf("mirror: the memory is no mirrored region: it begins with %#x, expected %#x; give the path of a region, or an empty file", magic, uint64(labelMagic))
	case le.Uint32(b[8:]) != labelVersion:
		return Label{}, fmt.Errorf("mirror: the region has format version %d, this program knows %d: use the program that wrote it", le.Uint32(b[8:]), labelVersion)
	case crc32.Checksum(b[:labelSum], castagnoli) != le.Uint32(b[labelSum:]):
		return Label{}, fmt.Errorf("mirror: the label is damaged: checksum %#x, expected %#x; restore the region from another copy",
			crc32.Checksum(b[:labelSum], castagnoli), le.Uint32(b[labelSum:]))
	}
	l := Label{ID: ID(b[16:32]), Size: le.Uint64(b[32:]), State: stateOf(m.Load64(stateOff))}
	l.boot = [2]uint64{m.Load64(bootOff), m.Load64(bootOff + 8)}
	switch {
	case l.Size != uint64(len(b)):
		return Label{}, fmt.Errorf("mirror: the memory has %d bytes, its label says %d: was the file shortened or extended?", len(b), l.Size)
	case l.State.Condition == Blank || l.State.Condition > Filling:
		return Label{}, fmt.Errorf("mirror: the label has condition %d, expected %d to %d: restore the region from another copy", l.State.Condition, Opened, Filling)
	}
	return l, nil
}

// blank says that a head was never written. A crash while it was written for the first time may have left part of it: then
// the state, which is stored last, is not there yet.
func blank(head []byte) bool {
	for i, v := range head {
		if v != 0 && (i >= labelEnd || binary.LittleEndian.Uint64(head[stateOff:]) != 0) {
			return false
		}
		if v != 0 && i < 8 && binary.LittleEndian.Uint64(head) != labelMagic {
			return false // something else begins here
		}
	}
	return true
}

// format makes a blank memory a new region, durably.
func format(m pmem.Memory) (Label, error) {
	l := Label{Size: uint64(len(m.Bytes()))}
	if _, err := rand.Read(l.ID[:]); err != nil {
		return l, err
	}
	copy(m.Bytes(), l.head())
	m.Persist(0, labelEnd)
	m.Fence()
	return l, nil
}

// head is the label's bytes before the state.
func (l *Label) head() []byte {
	b := make([]byte, labelEnd)
	le := binary.LittleEndian
	le.PutUint64(b, labelMagic)
	le.PutUint32(b[8:], labelVersion)
	copy(b[16:], l.ID[:])
	le.PutUint64(b[32:], l.Size)
	le.PutUint32(b[labelSum:], crc32.Checksum(b[:labelSum], castagnoli))
	return b
}

// outlived says that the copy's machine has been started again since, and the memory, of that domain, may have lost what the copy held:
// pages of a file that the system had not written back.
func (l *Label) outlived(d pmem.Domain, boot [2]uint64) bool {
	return l.State.Condition != Blank && (d == pmem.FileShared || d == pmem.FileSynced) && l.boot != boot
}

// storeBoot puts a boot into a label, durably, when the state that it belongs to is there.
func storeBoot(m pmem.Memory, boot [2]uint64) {
	m.Store64(bootOff, boot[0])
	m.Store64(bootOff+8, boot[1])
	m.Persist(bootOff, 16)
	m.Fence()
}

// store puts a state into a label, durably.
func (s State) store(m pmem.Memory) {
	m.Store64(stateOff, s.word())
	m.Persist(stateOff, 8)
	m.Fence()
}
