package plog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"whale/pmem"
)

// Identity says whose memory it is.
type Identity struct{ Shard, Member uint32 }

// EpochEntry says that the records from FirstSeq on, up to the next entry's, belong to Epoch, and where the log ended
// (Log.Tail) when the first of them was appended.
type EpochEntry struct {
	Epoch    uint32
	FirstSeq uint64
	FirstOff uint64 // arena offset
}

// Superblock is what must be known of a memory before anything else in it makes sense.
type Superblock struct {
	Identity
	Geometry
	Epoch  uint32       // the highest epoch stored; at least that of the last entry
	Table  []EpochEntry // epochs and first seqs strictly increase
	Merged bool         // Table[0] stands for several: it admits every epoch up to its own
	BootID [16]byte     // of the operating system, when the memory was last in use
	Domain uint8        // pmem.Domain at that time
	Update uint64       // counts writes of the superblock
}

// MaxEntries is the capacity of the epoch table. When it is full, the two oldest entries merge into one with the first
// seq of the older and the epoch of the younger. For its seqs the merged entry admits every epoch up to its own, which is
// weaker, but only for records of the distant past: what could be resurrected there lies below hundreds of later views.
const MaxEntries = 672

// Layout of one copy of the superblock, byte offsets.
const (
	copySize = SuperblockSize / 2

	sbMagic       = 0
	sbVersion     = 8
	sbDomain      = 12
	sbMerged      = 13 // 1 or 0
	sbShard       = 16
	sbMember      = 20
	sbRingSlots   = 24
	sbSegmentSize = 32
	sbSegments    = 40
	sbEpoch       = 48
	sbEntries     = 52
	sbUpdate      = 56
	sbBootID      = 64
	sbTable       = 128 // entries of 24 bytes: epoch 4, spare 4, first seq 8, first offset 8
	sbCheck       = copySize - 4

	entrySize = 24
)

const (
	superMagic    = "WHALELOG"
	formatVersion = 1
)

func (s *Superblock) encode(b []byte) {
	b = b[:copySize]
	clear(b)
	copy(b[sbMagic:], superMagic)
	le.PutUint32(b[sbVersion:], formatVersion)
	b[sbDomain] = s.Domain
	if s.Merged {
		b[sbMerged] = 1
	}
	le.PutUint32(b[sbShard:], s.Shard)
	le.PutUint32(b[sbMember:], s.Member)
	le.PutUint64(b[sbRingSlots:], s.RingSlots)
	le.PutUint64(b[sbSegmentSize:], s.SegmentSize)
	le.PutUint64(b[sbSegments:], s.Segments)
	le.PutUint32(b[sbEpoch:], s.Epoch)
	le.PutUint32(b[sbEntries:], uint32(len(s.Table)))
	le.PutUint64(b[sbUpdate:], s.Update)
	copy(b[sbBootID:], s.BootID[:])
	for i, e := range s.Table {
		at := b[sbTable+i*entrySize:]
		le.PutUint32(at, e.Epoch)
		le.PutUint64(at[8:], e.FirstSeq)
		le.PutUint64(at[16:], e.FirstOff)
	}
	le.PutUint32(b[sbCheck:], checksum(b[:sbCheck]))
}

// decodeSuperblock reads one copy. The error says what was found and what was expected.
func decodeSuperblock(b []byte) (Superblock, error) {
	b = b[:copySize]
	if magic := b[sbMagic : sbMagic+len(superMagic)]; string(magic) != superMagic {
		return Superblock{}, fmt.Errorf("magic %q, expected %q", magic, superMagic)
	}
	if v := le.Uint32(b[sbVersion:]); v != formatVersion {
		return Superblock{}, fmt.Errorf("format version %d, expected %d", v, formatVersion)
	}
	if want, got := le.Uint32(b[sbCheck:]), checksum(b[:sbCheck]); want != got {
		return Superblock{}, fmt.Errorf("checksum stored %08x, computed %08x", want, got)
	}
	s := Superblock{
		Identity: Identity{Shard: le.Uint32(b[sbShard:]), Member: le.Uint32(b[sbMember:])},
		Geometry: Geometry{RingSlots: le.Uint64(b[sbRingSlots:]), SegmentSize: le.Uint64(b[sbSegmentSize:]), Segments: le.Uint64(b[sbSegments:])},
		Epoch:    le.Uint32(b[sbEpoch:]),
		Merged:   b[sbMerged] != 0,
		BootID:   [16]byte(b[sbBootID:]),
		Domain:   b[sbDomain],
		Update:   le.Uint64(b[sbUpdate:]),
	}
	n := le.Uint32(b[sbEntries:])
	if n > MaxEntries {
		return Superblock{}, fmt.Errorf("%d epoch entries, expected at most %d", n, MaxEntries)
	}
	for i := range int(n) {
		at := b[sbTable+i*entrySize:]
		s.Table = append(s.Table, EpochEntry{Epoch: le.Uint32(at), FirstSeq: le.Uint64(at[8:]), FirstOff: le.Uint64(at[16:])})
	}
	if err := s.check(); err != nil {
		return Superblock{}, err
	}
	again := make([]byte, copySize)
	if s.encode(again); !bytes.Equal(again, b) {
		return Superblock{}, errors.New("fields that this version does not know")
	}
	return s, nil
}

// check holds the superblock against what every writer of one keeps.
func (s *Superblock) check() error {
	if err := s.Geometry.Validate(); err != nil {
		return err
	}
	var last EpochEntry
	for i, e := range s.Table {
		if e.Epoch <= last.Epoch || e.FirstSeq <= last.FirstSeq || (i > 0 && e.FirstOff <= last.FirstOff) ||
			e.FirstOff > s.ArenaSize() || e.FirstOff&7 != 0 {
			return fmt.Errorf("epoch entry %d is %+v behind %+v: expected a higher epoch, seq and offset, inside the arena", i, e, last)
		}
		last = e
	}
	if s.Epoch < last.Epoch {
		return fmt.Errorf("epoch %d, but its table goes to %d", s.Epoch, last.Epoch)
	}
	if s.Merged && len(s.Table) == 0 {
		return errors.New("a merged epoch entry in an empty table")
	}
	return nil
}

// admits says whether a record of that epoch belongs at seq.
func (s *Superblock) admits(seq uint64, epoch uint32) bool {
	for i := len(s.Table) - 1; i >= 0; i-- {
		if e := &s.Table[i]; e.FirstSeq <= seq {
			return epoch == e.Epoch || (i == 0 && s.Merged && epoch < e.Epoch)
		}
	}
	return false
}

// entryAt is the entry that seq belongs to.
func (s *Superblock) entryAt(seq uint64) (EpochEntry, bool) {
	for i := len(s.Table) - 1; i >= 0; i-- {
		if s.Table[i].FirstSeq <= seq {
			return s.Table[i], true
		}
	}
	return EpochEntry{}, false
}

// with is the superblock with e as its last entry. Entries at or above e's first seq are of views that e's supersedes.
// An epoch has one entry for ever: with another one, what Append refuses (see ErrNoEpoch) would be possible.
func (s Superblock) with(e EpochEntry) (Superblock, error) {
	for _, old := range s.Table {
		if old.Epoch == e.Epoch {
			return s, fmt.Errorf("epoch entry %+v contradicts %+v: the members' epoch tables differ", e, old)
		}
	}
	table := slices.Clone(s.Table)
	for len(table) > 0 && table[len(table)-1].FirstSeq >= e.FirstSeq {
		table = table[:len(table)-1]
	}
	if len(table) == 0 {
		s.Merged = false
	}
	if len(table) == MaxEntries {
		table[1].FirstSeq, table[1].FirstOff = table[0].FirstSeq, table[0].FirstOff
		table, s.Merged = table[1:], true
	}
	s.Table = append(table, e)
	s.Epoch = max(s.Epoch, e.Epoch)
	return s, s.check()
}

// writeSuperblock writes both copies, one after the other, each durable before the next step: a crash leaves one of them
// whole, and later damage of either one loses nothing. copy 0 goes first, which [Format] relies on.
func writeSuperblock(m pmem.Memory, s *Superblock) error {
	b := make([]byte, copySize)
	s.encode(b)
	for off := uint64(0); off < SuperblockSize; off += copySize {
		copy(m.Bytes()[off:off+copySize], b)
		if err := makeDurable(m, off, copySize); err != nil {
			return fmt.Errorf("plog: superblock: %w", err)
		}
	}
	return nil
}

// makeDurable returns once [off, off+n) is inside the persistence domain. It may block, where the domain asks for it.
func makeDurable(m pmem.Memory, off, n uint64) error {
	m.Persist(off, n)
	m.Fence()
	if m.Domain() == pmem.FileSynced {
		return m.Sync(off, n)
	}
	return nil
}

// Stored is the geometry of the log that m starts with; m may be longer, as a device is. Nothing is changed. A memory that
// was never formatted gives ErrUnformatted.
func Stored(m pmem.Memory) (Geometry, error) {
	s, err := newerCopy(m)
	return s.Geometry, err
}

// readSuperblock takes the newer valid copy, and writes both again when they differ.
func readSuperblock(m pmem.Memory) (Superblock, error) {
	s, err := newerCopy(m)
	if err != nil {
		return s, err
	}
	b := m.Bytes()
	if uint64(len(b)) != s.Size() {
		return Superblock{}, fmt.Errorf("%d bytes, expected %d for %+v", len(b), s.Size(), s.Geometry)
	}
	if !bytes.Equal(b[:copySize], b[copySize:SuperblockSize]) {
		return s, writeSuperblock(m, &s)
	}
	return s, nil
}

// newerCopy is the valid copy of the superblock, the newer of two.
func newerCopy(m pmem.Memory) (Superblock, error) {
	b := m.Bytes()
	if len(b) < SuperblockSize {
		return Superblock{}, fmt.Errorf("%d bytes, expected at least the superblock's %d", len(b), SuperblockSize)
	}
	c0, c1 := b[:copySize], b[copySize:SuperblockSize]
	s0, err0 := decodeSuperblock(c0)
	s1, err1 := decodeSuperblock(c1)
	if err0 != nil && err1 != nil {
		if allZero(c1) { // Format writes copy 0 first
			return Superblock{}, fmt.Errorf("%w (superblock: %w)", ErrUnformatted, err0)
		}
		return Superblock{}, fmt.Errorf("both copies of the superblock are invalid: first: %w; second: %w", err0, err1)
	}
	if err0 != nil || (err1 == nil && s1.Update > s0.Update) {
		return s1, nil
	}
	return s0, nil
}

// Format makes m, of exactly g.Size() zero bytes, an empty log. A memory that holds anything is refused, except what a
// Format with the same arguments left when it was cut short.
func Format(m pmem.Memory, g Geometry, id Identity) error {
	if err := g.Validate(); err != nil {
		return err
	}
	b := m.Bytes()
	if uint64(len(b)) != g.Size() {
		return fmt.Errorf("plog: a memory of %d bytes cannot be formatted: %+v needs %d", len(b), g, g.Size())
	}
	s := Superblock{Identity: id, Geometry: g, Domain: uint8(m.Domain()), Update: 1}
	want := make([]byte, copySize)
	s.encode(want)
	for i := 0; i < copySize; i += 8 {
		if w := le.Uint64(b[i:]); w != 0 && w != le.Uint64(want[i:]) {
			return fmt.Errorf("plog: the memory is in use: its superblock has %016x at offset %d; remove it to start anew", w, i)
		}
	}
	arena := g.Arena()
	if !allZero(b[copySize:g.Ring()]) || !allZero(b[arena:arena+SegmentHeaderSize+RecordHeaderSize]) {
		return fmt.Errorf("plog: the memory is in use: its control page or its first segment is not empty; remove it to start anew")
	}
	return writeSuperblock(m, &s)
}
