// Package fabric is one-sided communication: a process reads and writes memory that another process has registered,
// and that process's CPU takes no part.
//
// The nouns are those of RDMA: an [Endpoint] registers memory and makes connections; a [Conn] is a reliable connection,
// a queue pair with its completion queue; an [Op] is a work request; a [Completion] tells how it ended. Providers live in
// packages below this one (shm, tcp, verbs, simfab), and each passes the suite in fabrictest.
//
// # What is ordered, and what a completion says
//
// Operations on one connection start in post order, and their completions are reported in post order. A completion of
// a Write says that the local bytes may be used again and that the other side's NIC has the data: it says neither that a
// CPU there would read it nor that it is durable. For that, post a Flush (or a Read) behind it on the same connection: its
// completion covers every Write posted before it. Nothing is ordered between connections.
//
// After the first error completion on a connection every later one is an error too ([ErrFlushed]), and the connection
// is of no more use.
//
// # Persistence
//
// Five primitives carry writes into the persistence domain of the peer's memory. Which blocks, orders and makes durable
// is the same with every provider; docs/mirroring.md says what each costs where.
//
//	remote commit               Write, ..., then Flush with placement Durable; wait for its completion
//	write-through write         Write or Write8 with WriteThrough
//	remote ordering fence       Fence with placement Durable; nobody waits
//	remote durability fence     Fence with placement Durable and Signaled; wait for its completion
//	non-temporal write          Write or Write8 with NonTemporal, in post order; for the end, a Read behind it; wait for that
//
// A Fence with placement Durable speaks of what was written through or non-temporally before it on this connection; a plain Write
// needs a Flush.
package fabric

import (
	"context"
	"errors"
	"time"

	"whale/pmem"
)

// Key names a registration: what a peer needs, besides an offset, to reach the memory. Keys are never used twice by one
// endpoint, not even over restarts. Zero is no key.
type Key uint64

// Rights are what a registration lets peers do.
type Rights uint8

const (
	RemoteRead   Rights = 1 << iota // Read
	RemoteWrite                     // Write, Write8
	RemoteAtomic                    // CompareSwap, FetchAdd
	RemoteFlush                     // Flush with placement Durable
	// LocalOnly (no right) registers memory for use as Span alone.
	LocalOnly Rights = 0
)

// Kind is what an operation does.
type Kind uint8

const (
	Write       Kind = iota + 1 // copies Len bytes from Local to Remote
	Read                        // copies Len bytes from Remote to Local
	Write8                      // stores A at Remote (8 bytes, aligned) atomically, behind all earlier operations
	CompareSwap                 // if the word at Remote is A, stores B; Value is the word before
	FetchAdd                    // adds A to the word at Remote; Value is the word before
	Flush                       // what this connection wrote before has the Placement A over [Remote, Remote+Len) (or its region, by B)
	Fence                       // nothing posted later takes effect at the peer before everything posted earlier has the Placement A there (0: Visible)
	Send                        // delivers Len bytes from Local to the peer's next posted Recv
	Recv                        // posts Local, Len bytes long, for one incoming Send; Value is the length that came
)

// Flags modify an operation.
type Flags uint8

const (
	Signaled     Flags = 1 << iota // report a completion; without it only an error is reported. A Recv always reports.
	Inline                         // Local may be changed as soon as Post returns; Len is at most Caps.Inline
	Fenced                         // start only when earlier Reads and atomics of this connection have completed
	WriteThrough                   // (Write, Write8) start its way to the persistence domain at once
	Notify                         // (Write, Write8, Send) ring the peer when it has landed: see Endpoint.Arm
	// NonTemporal (Write, Write8) passes the caches of the peer by. Such writes of one connection become durable in post
	// order, and one byte of a later one implies all of an earlier one; a Read posted behind them completes when they are
	// durable. Nothing is ordered inside one Write. Refused with ErrUnsupported where Caps.NonTemporal is false.
	NonTemporal
)

// Placement is where a Flush puts bytes, or a Fence asks for them: operand A.
const (
	Visible uint64 = 1 // a CPU there reads them
	Durable uint64 = 2 // they are inside the persistence domain of the memory (includes Visible)
)

// Selectivity is what a Flush covers: operand B.
const (
	Range  uint64 = 0 // [Remote.Off, Remote.Off+Len)
	Region uint64 = 1 // all of the memory under Remote.Key
)

// Span is a place in memory registered at this endpoint. Off is counted from the start of the registration.
type Span struct {
	Key Key
	Off uint64
}

// Addr is a place in memory registered at the peer. Off is counted from the start of the registration.
type Addr struct {
	Key Key
	Off uint64
}

// Op is one operation. The provider copies it at Post; the memory at Local stays untouched by the caller until the
// completion (of this, or of a later signaled operation on the connection), except with Inline.
type Op struct {
	Kind   Kind
	Flags  Flags
	ID     uint64 // returned in the completion
	Local  Span
	Remote Addr
	Len    uint64
	A, B   uint64 // operands, by Kind
}

// Completion tells how an operation ended.
type Completion struct {
	ID    uint64
	Value uint64 // Recv: bytes received; atomics: the word before
	Kind  Kind
	Err   error // nil, or one that errors.Is one of the Err values of this package
}

// Caps is what this provider and this peer really give.
type Caps struct {
	Provider    string
	QueueDepth  int  // operations, receives excluded, that may be posted and not yet completed
	RecvDepth   int  // receives that may be posted
	Inline      int  // bytes an Inline operation may carry
	MaxSend     int  // bytes a Send may carry
	Atomics     bool // CompareSwap and FetchAdd
	NativeFlush bool // Flush is one operation of the hardware (or exact by construction), not built from others
	// Domain is the persistence domain of the peer's memory as far as a durable Flush or Fence goes; None: both are
	// refused with ErrUnsupported.
	Domain pmem.Domain
	// NonTemporal: non-temporal writes are what they say, because the peer's incoming writes pass its caches by on their way
	// to the persistence domain, or because its caches are inside.
	NonTemporal bool
	// Immediate: Post executes an operation before it returns, on the caller's processor. To gather operations saves little then, and
	// the flushes of one that was posted in time are waited for by the caller's own next fence, together with the caller's.
	Immediate bool
}

var (
	ErrAccess      = errors.New("fabric: remote access refused")  // unknown or revoked key, outside the region, or without the right
	ErrLocal       = errors.New("fabric: bad local memory")       // Local is not registered here, or too short
	ErrOp          = errors.New("fabric: malformed operation")    // unknown kind or flag, misaligned word, too long
	ErrFlushed     = errors.New("fabric: flushed after an error") // an earlier operation on the connection failed
	ErrBroken      = errors.New("fabric: connection lost")        // the peer's process ended, or the way to it did
	ErrTooLong     = errors.New("fabric: message longer than receive buffer")
	ErrUnsupported = errors.New("fabric: not supported by this provider and peer")
	ErrInFlight    = errors.New("fabric: revoked, but an operation may still land") // Revoke again
	ErrAuth        = errors.New("fabric: peer does not hold the cluster secret")
	ErrClosed      = errors.New("fabric: endpoint closed")
)

// Conn is a connection to one peer. It has one owner at a time: no method may run beside another.
type Conn interface {
	// Caps never changes.
	Caps() Caps
	// Post hands over operations in order and returns how many were taken; fewer than len(ops) means that a queue is
	// full: poll, and post the rest later. It never blocks and never fails: errors are completions.
	Post(ops []Op) int
	// Poll moves completions into dst and returns how many. It never blocks.
	Poll(dst []Completion) int
	// Close breaks the connection, at the peer too. Nothing posted on it lands after Close returned.
	Close() error
}

// Endpoint is a process's place on the fabric. Any goroutine may call its methods, except that Arm and Wait belong to
// one goroutine, the one that polls the connections.
type Endpoint interface {
	// Register lets peers reach [off, off+n) of m with the rights r, and this endpoint use it as Local. The memory must
	// stay mapped until the key is revoked and the endpoint closed. Some providers refuse remote rights on memory that
	// they cannot share; the error says which memory they want.
	Register(m pmem.Memory, off, n uint64, r Rights) (Key, error)
	// Revoke withdraws a key at once and does not block. nil: nothing under it can land any more, from any connection,
	// ever. ErrInFlight: an operation that began earlier may still be landing; call again. Revoking a key that is
	// unknown or already revoked is nil.
	Revoke(Key) error
	// Arm says that the caller is about to park. False: something arrived since the last Arm or Wait; poll instead.
	// After true, every Notify (and Send, and lost connection) rings Doorbell until Wait returns.
	Arm() bool
	// Wait parks until the doorbell rings or d has passed, and consumes the ring. After Arm returned true only.
	Wait(d time.Duration)
	// Disarm takes back an Arm that returned true, without parking and without a system call. A ring that came meanwhile
	// stays: Doorbell is or becomes readable, or the next Arm says false.
	Disarm()
	// While a completion waits to be polled, Doorbell may stay readable and Wait may return at once: poll every connection.
	// Doorbell is a file descriptor that is readable while Wait would not block, for callers that wait for other things
	// besides; they call Wait(0) when it is, Disarm when it is not. -1: this provider has none.
	Doorbell() int
	// Addr is what peers dial.
	Addr() string
	// Dial connects to the endpoint at addr; hello, at most 4096 bytes, is handed to its Accept, and its answer is
	// returned. Both sides prove that they hold the cluster's secret first.
	Dial(ctx context.Context, addr string, hello []byte) (Conn, []byte, error)
	// Accept waits for one connection. answer gets the peer's hello and returns the answer, at most 4096 bytes, or an
	// error, whose text the dialing side sees.
	Accept(ctx context.Context, answer func(hello []byte) ([]byte, error)) (Conn, error)
	// Close revokes everything and breaks every connection.
	Close() error
}
