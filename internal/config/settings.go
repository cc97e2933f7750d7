package config

import "time"

// Settings are what a node can be told from outside. The tags of a field are the only place where a setting is described:
// its name (the flag; the key in the file; WHALE_ and the name in capitals in the environment), its default in the form
// in which people write it, and what it means, in one line.
type Settings struct {
	ID           int      `name:"id" default:"0" help:"this node's place in --peers, counted from 0; node 0 is the primary"`
	Peers        []string `name:"peers" help:"all members, this one too, in the same order at all of them: their data folders, or host:port of their fabric with --fabric tcp or verbs"`
	Dir          string   `name:"dir" help:"this node's data folder (default: its entry in --peers; required with --fabric tcp or verbs)"`
	Fabric       string   `name:"fabric" default:"shm" help:"what connects the members: shm (shared memory, on one machine), tcp, or verbs (RDMA)"`
	FabricListen string   `name:"fabric-listen" help:"address for the other members, host:port, with --fabric tcp or verbs (default: this node's entry in --peers)"`
	Device       string   `name:"device" help:"RDMA device with --fabric verbs, as whale fabric list shows it; with :N behind it, its port N (default: the one with the address of --fabric-listen)"`
	DirectWrite  bool     `name:"direct-write" help:"with --fabric verbs: declare that what the RDMA device writes goes past the CPU's caches into persistent memory; docs/rdma.md says when that is so"`

	TLSCert string `name:"tls-cert" help:"this node's certificate: turns TLS on for Redis clients, and for members with --fabric tcp; whale cert makes it"`
	TLSKey  string `name:"tls-key" help:"the key of --tls-cert, mode 0600"`
	TLSCA   string `name:"tls-ca" help:"certificate of the authority that clients' and members' certificates must be signed by"`

	Listen string `name:"listen" help:"address for Redis clients, host:port (default 127.0.0.1 and --port)"`
	Port   int    `name:"port" default:"7001" help:"port for Redis clients on 127.0.0.1; 0: any free one"`
	Secret string `name:"secret" help:"file with the cluster's secret: 64 hexadecimal digits, mode 0600 (required)"`

	Memory    string        `name:"memory" help:"where this node's memory is: a device of device DAX (/dev/dax0.0), or a file elsewhere, on a file system mounted with DAX say; the data folder keeps a link to it (default: the file memory in the data folder)"`
	Arena     Size          `name:"arena" help:"memory for records, the same at all nodes (default: that of the existing memory; for a new one all of a device, or 1GiB)"`
	Protocol  string        `name:"protocol" default:"whale" help:"how writes are replicated: whale, or chain (classic chain replication, to compare with); the same at all nodes"`
	Policy    string        `name:"policy" default:"mirror" help:"what is durable where before a write is acknowledged: mirror, metadata or all; the primary's setting counts"`
	Mirrors   int           `name:"mirrors" default:"1" help:"policy mirror: backups that hold the data before a write is acknowledged"`
	MinCopies int           `name:"min-copies" default:"0" help:"take writes with so many copies, although the policy wants more (default: no fewer than it wants)"`
	Timeout   time.Duration `name:"timeout" default:"10s" help:"a command that is not done by then fails"`

	MaxClients  int  `name:"max-clients" default:"10000" help:"connections of Redis clients"`
	MaxArgument Size `name:"max-argument" help:"largest argument of a command (default 64MiB)"`
	Threads     int  `name:"threads" default:"1" help:"threads that serve clients; more than one helps with many cores and many reads"`
	Insecure    bool `name:"insecure" help:"allow an address that is not loopback: no encryption"`

	Password    string `name:"requirepass" secret:"yes" help:"password that Redis clients have to give; put it into the file or the environment: flags are shown to everybody on the machine"`
	SlowerThan  int64  `name:"slowlog-log-slower-than" default:"10000" help:"microseconds from arrival to reply from which on a command is kept for SLOWLOG; 0: all, -1: none"`
	SlowMax     int64  `name:"slowlog-max-len" default:"128" help:"commands that SLOWLOG keeps"`
	LatencyFrom int64  `name:"latency-monitor-threshold" default:"0" help:"milliseconds from arrival to reply from which on a command is kept for LATENCY; 0: none"`
	EnableDebug bool   `name:"enable-debug-command" help:"allow DEBUG SLEEP, which makes the node stand still"`

	Admin    string `name:"admin" help:"address for operators, host:port, with /metrics, /livez, /readyz and /debug/pprof by HTTP (default: none)"`
	LogLevel string `name:"log-level" default:"info" help:"what to log on stderr: debug, info, warn or error"`
}
