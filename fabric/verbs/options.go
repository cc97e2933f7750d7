// Package verbs is the provider of package fabric for RDMA cards: InfiniBand, RoCE, and soft-RoCE, which needs no card. It
// drives rdma-core's libibverbs and is compiled in with the build tag verbs; without it, [Open] says how to get it.
//
// A connection is a reliable connection (RC) of RDMA, and a TCP socket beside it. Over the socket the two sides prove that
// they hold the cluster's secret, exchange what their queue pairs need, and later say good-bye; no data goes over it, and
// none of what goes over the queue pair is encrypted. Terms are those of the InfiniBand Architecture Specification, Volume
// 1, Release 1.7 (IBTA), and of rdma-core's manual pages.
//
//	fabric            on the wire
//	Write             RDMA WRITE; with Notify: RDMA WRITE with immediate data
//	Read              RDMA READ
//	Write8            ATOMIC WRITE, or an aligned 8-byte RDMA WRITE where one side does not have that
//	CompareSwap …     CmpSwap, FetchAdd
//	Flush, visible    FLUSH (global visibility), or an RDMA READ behind the writes
//	Flush, durable    FLUSH (persistence), for a region of what was written; RDMA READ where the peer declares that it
//	                  suffices; otherwise refused
//	Fence             RDMA READ of a word that each endpoint has for this, and the fence flag on the next request
//	Fence, durable    FLUSH (persistence) of what was written through, or the READ; and the fence flag
//	WriteThrough      noted, for the Fence: no request starts that way without waiting for its end
//	NonTemporal       nothing more, where visible is durable or the peer declares it; otherwise refused
//	Send              SEND into a buffer of the provider, copied to the Recv's when that is polled
//
// # What is ordered
//
// The queue pair executes requests in post order (IBTA 10.8.3.3), registrations never ask for relaxed ordering, and a READ
// pushes the WRITEs before it out of the card (PCI Express transaction ordering), so that its completion says that they
// are visible. An 8-byte aligned WRITE is one transaction of the bus: no CPU sees half of it.
//
// # Revocation
//
// Every registration is a memory region (MR) of its own, and Revoke deregisters it, in the background, for the kernel may
// take milliseconds. From its beginning the card refuses new operations under the key; it ends when no operation that
// began earlier can still touch the memory (IBTA 10.6.7.2: Deregister Memory Region); if the device reports that it could
// not end them, all connections of the endpoint are broken first, whose queue pairs end with everything under way. Until
// then Revoke answers ErrInFlight. A key also fixes the 64-bit addresses that the card accepts with it, different for every registration, so that
// a card that gives the same 32-bit number to a later registration still refuses the old key.
package verbs

import (
	"errors"
	"time"

	"whale/pmem"
)

// DefaultPeerTimeout is how long a silent machine is taken to be alive.
const DefaultPeerTimeout = 5 * time.Second

// Options configure an endpoint.
type Options struct {
	// Listen is where peers connect, host:port; port 0: any free one. The host is an address of the network interface that
	// belongs to the RDMA device, so that it also says which device and which of its addresses (GIDs) are meant.
	Listen string
	// Device is the RDMA device, for instance mlx5_0; with :N behind it, its port N instead of the one that has Listen's
	// address. Empty: the device with Listen's address.
	Device string
	// Secret is the cluster's secret: at least 16 bytes, the same at every endpoint.
	Secret []byte
	// Domain is the persistence domain of the memory that peers will flush; they see it in Caps, unless it needs flushes that
	// the two devices cannot do. The zero value, None, makes them refuse durable flushes.
	Domain pmem.Domain
	// DirectWrite declares that the card's writes go past the CPU's caches to the memory (DDIO is off for it), so that an
	// RDMA READ behind them makes them durable in the domain ADR. Nothing can check it: see docs/rdma.md.
	DirectWrite bool
	// PeerTimeout is how long the machine of a peer may be silent before the connection is lost. A process that dies is
	// noticed at once. 0: DefaultPeerTimeout; at least 1 s.
	PeerTimeout time.Duration
}

// ErrNotBuilt is what Open and Devices return in a program that was built without the tag.
var ErrNotBuilt = errors.New("verbs: RDMA is not in this program: build it on Linux with `go build -tags verbs ./cmd/whale`, " +
	"with CGO_ENABLED=1, a C compiler and the headers of rdma-core (Debian: apt-get install gcc libibverbs-dev; Fedora: gcc rdma-core-devel)")

// Device is an RDMA device of this machine and what it can do.
type Device struct {
	Name, Firmware string
	Vendor, Part   uint32
	Atomics        bool // CompareSwap and FetchAdd
	FlushVisible   bool // FLUSH to global visibility
	FlushDurable   bool // FLUSH to persistence
	AtomicWrite    bool
	QueueDepth     int // work requests of a queue pair
	Ports          []Port
	Err            error // why it could not be asked
}

// Port is one of a device's ports.
type Port struct {
	Number int
	Active bool
	Link   string // InfiniBand or Ethernet
	GIDs   []GID
}

// GID is one of a port's addresses.
type GID struct {
	Index int
	Type  string // IB, RoCE v1 or RoCE v2
	Addr  string // as an IP address
}
