// Package plog is the memory that a member keeps for one shard: a superblock, a control page, a ring of metadata slots
// and an arena of segments with the log's records.
//
//	0        superblock     two copies of 16 KiB: identity, geometry, epoch, epoch table
//	32 KiB   control page   4 KiB: one 64-byte line for each word, or peer, that others read or write
//	36 KiB   metadata ring  RingSlots slots of 64 bytes; the slot of a seq is at seq mod RingSlots
//	then     arena          Segments segments of SegmentSize bytes; a 64-byte header, then records back to back
//
// Everything is little-endian. The arena is byte for byte the same on all members, because the primary alone decides
// where a record goes; so an arena offset (from the start of the arena, not of the memory) names a record everywhere.
// Offset 0 is the header of segment 0 and hence never a record: 0 means none.
//
// Peers write into this memory with one-sided operations, and a crash may leave any of its 8-byte words old or new.
// Nothing read from it is trusted before its bounds, checksum, seq and epoch are checked.
//
// # The log
//
// A record's seq is its place in the shard's order of writes: dense, from 1. The record of seq n+1 follows that of seq n
// directly (padded to 8 bytes), or, when it does not fit into the rest of the segment, comes first in the next one; the
// rest then is zero. So the place of a record follows from the lengths of those before it, and [Log.Extend] holds a
// backup to the same places.
//
// Which records are the log is decided by three things together: the run of dense seqs, their checksums, and the epoch
// table, which names the epoch that each seq belongs to. Checksum and seq alone would bring back records that an earlier
// view dropped: they lie, whole, above the place where the log was cut.
package plog

import "errors"

var (
	// ErrFull: the arena has no room for the record.
	ErrFull = errors.New("plog: the arena is full")
	// ErrTooLarge: the record does not fit into a segment.
	ErrTooLarge = errors.New("plog: the record is larger than a segment")
	// ErrUnformatted: the memory has never been formatted, or a first Format was cut short. Format makes it one's own.
	ErrUnformatted = errors.New("plog: the memory is not formatted")
	// ErrNotRecovered: Recover has not run, so the end of the log is not known.
	ErrNotRecovered = errors.New("plog: the log is not recovered: call Recover first")
	// ErrNoEpoch: nothing may be appended before the current epoch has its entry at the end of the log. A restart and
	// a cut both need a new epoch, for records that were dropped may lie whole above the end, and in the old epoch
	// they would come back.
	ErrNoEpoch = errors.New("plog: the current epoch has no entry at the log's end: call SetEpoch and AddEntry{Epoch, End()+1, Tail()} first")
)
