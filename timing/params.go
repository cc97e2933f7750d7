package timing

import (
	"fmt"
	"math"
	"reflect"
	"strings"
)

// Params are what the hardware costs: times in nanoseconds, unless the field says otherwise. The tags hold the default,
// the range within which hardware of this kind lies, and what the parameter is. One number stands for all machines of a
// [Model]. [Default] makes them, [Load] reads them from a file.
type Params struct {
	CPU        CPU        `toml:"cpu"`
	NIC        NIC        `toml:"nic"`
	Link       Link       `toml:"link"`
	PCIe       PCIe       `toml:"pcie"`
	Cache      Cache      `toml:"cache"`
	Memory     Memory     `toml:"memory"`
	Permission Permission `toml:"permission"`
	Tail       Tail       `toml:"tail"`
}

// CPU is what a thread spends.
type CPU struct {
	Post        float64 `toml:"post" default:"80" range:"50,150" help:"post a work request and ring the doorbell"`
	PostBatched float64 `toml:"post_batched" default:"20" range:"10,40" help:"each further work request under the same doorbell"`
	Poll        float64 `toml:"poll" default:"50" range:"30,100" help:"poll and handle a completion"`
	Clwb        float64 `toml:"clwb" default:"5" range:"1,15" help:"issue the write-back of a line"`
	ClwbFence   float64 `toml:"clwb_fence" default:"62" range:"60,150" help:"write-back of one line and the fence behind it, memory idle"`
	NTFence     float64 `toml:"nt_fence" default:"90" range:"85,120" help:"non-temporal store of one line and the fence behind it, memory idle"`
	EADRFence   float64 `toml:"eadr_fence" default:"25" range:"10,40" help:"fence where caches are inside the persistence domain"`
	CacheHit    float64 `toml:"cache_hit" default:"22" range:"15,40" help:"load from the last-level cache"`
	DRAMLoad    float64 `toml:"dram_load" default:"90" range:"70,130" help:"load from DRAM, or from a buffer of the memory controller"`
}

// NIC is a network card.
type NIC struct {
	Pipeline      float64 `toml:"pipeline" default:"150" range:"80,250" help:"a message's way through a card, each side"`
	Inline        float64 `toml:"inline" default:"220" range:"64,256" unit:"B" help:"payload that travels with the work request"`
	PayloadFetch  float64 `toml:"payload_fetch" default:"400" range:"250,600" help:"fetch of a payload above inline, or of a receive's descriptor"`
	Rate          float64 `toml:"rate" default:"150" range:"35,330" unit:"M/s" help:"messages of a card"`
	QueuePairRate float64 `toml:"queue_pair_rate" default:"10" range:"5,20" unit:"M/s" help:"messages of a queue pair"`
	CacheMiss     float64 `toml:"cache_miss" default:"400" range:"200,1000" help:"a connection or memory key that the card does not hold"`
	CacheEntries  float64 `toml:"cache_entries" default:"1024" range:"16,65536" unit:"entries" help:"connections and memory keys that a card holds"`
}

// Link is the way between two cards.
type Link struct {
	Bandwidth float64 `toml:"bandwidth" default:"12.5" range:"5,50" unit:"B/ns" help:"bandwidth, each direction"`
	Header    float64 `toml:"header" default:"60" range:"30,90" unit:"B" help:"bytes of a message beside its payload"`
	Switch    float64 `toml:"switch" default:"120" range:"90,600" help:"the hop through a switch"`
}

// PCIe is the way between a card and its host.
type PCIe struct {
	Write float64 `toml:"write" default:"200" range:"120,300" help:"posted write"`
	Read  float64 `toml:"read" default:"500" range:"200,1000" help:"read of DRAM, there and back"`
}

// Cache is the last-level cache of a host, into which its card writes.
type Cache struct {
	Size     float64 `toml:"size" default:"24.75" range:"8,256" unit:"MB" help:"last-level cache"`
	Ways     float64 `toml:"ways" default:"11" range:"4,20" unit:"ways" help:"ways of the cache"`
	DDIOWays float64 `toml:"ddio_ways" default:"2" range:"1,11" unit:"ways" help:"of them for what cards write (DDIO)"`
}

// Memory is persistent memory, from the cache on.
type Memory struct {
	EADR          bool    `toml:"eadr" help:"caches are inside the persistence domain (eADR, CXL's GPF); without it the write queue is (ADR)"`
	CXL           bool    `toml:"cxl" help:"the memory is behind CXL and has no granule; without it, modules of PM on memory channels"`
	WriteBack     float64 `toml:"write_back" default:"100" range:"60,250" help:"on the mirror's side, from the cache to the memory controller's write queue"`
	WriteBackLine float64 `toml:"write_back_line" default:"10" range:"5,20" help:"each line of such a write-back"`
	WriteQueue    float64 `toml:"write_queue" default:"32" range:"16,64" unit:"lines" help:"write queue of a memory channel"`
	Modules       float64 `toml:"modules" default:"6" range:"1,6" unit:"modules" help:"modules, interleaved by 4 KB, each on a channel of its own"`
	ReadLatency   float64 `toml:"read_latency" default:"305" range:"169,350" help:"random read of the media"`
	ReadRate      float64 `toml:"read_rate" default:"6.567" range:"3.3,13.1" unit:"GB/s" help:"read bandwidth of a module (39.4 for six)"`
	WriteRate     float64 `toml:"write_rate" default:"2.317" range:"1.15,4.6" unit:"GB/s" help:"write bandwidth of a module (13.9 for six)"`
	Granule       float64 `toml:"granule" default:"256" range:"64,512" unit:"B" help:"what the media writes at once; a power of two"`
	Buffer        float64 `toml:"buffer" default:"16" range:"4,64" unit:"KB" help:"write buffer of a module"`
	CXLLoad       float64 `toml:"cxl_load" default:"270" range:"265,442" help:"load from memory behind CXL"`
}

// Permission is what a change of remote rights costs whoever makes it.
type Permission struct {
	Flags      float64 `toml:"flags" default:"88000" range:"60000,150000" help:"withdrawal of a key, by access flags"`
	QueuePair  float64 `toml:"queue_pair" default:"1200000" range:"600000,2500000" help:"a queue pair taken through its states: a new connection"`
	Reregister float64 `toml:"reregister" default:"350000" range:"350000,57000000" help:"registration of memory"`
}

// Tail is how much all of it varies.
type Tail struct {
	P99      float64 `toml:"p99" default:"1.25" range:"1.1,1.6" or:"1" unit:"x" help:"99th percentile of a round trip, in medians; 1: no variation"`
	Stall    float64 `toml:"stall" default:"0.001" range:"0.00001,0.01" or:"0" unit:"probability" help:"that a thread which handles a message is stalled"`
	StallMin float64 `toml:"stall_min" default:"10000" range:"5000,20000" help:"shortest stall"`
	StallMax float64 `toml:"stall_max" default:"100000" range:"50000,200000" help:"longest stall"`
}

// Param is one number among the parameters.
type Param struct {
	Name     string // as in the file: "nic.pipeline"
	Help     string
	Unit     string
	Default  float64
	Min, Max float64
	or       float64 // a value outside the range that is allowed too; NaN: none
	index    [2]int  // fields that lead to it
}

// All lists every number, in the order of the struct.
var All = listed()

func listed() (all []Param) {
	sections := reflect.TypeFor[Params]()
	for i := range sections.NumField() {
		section := sections.Field(i)
		for j := range section.Type.NumField() {
			f := section.Type.Field(j)
			if f.Type.Kind() != reflect.Float64 {
				continue
			}
			p := Param{Name: section.Tag.Get("toml") + "." + f.Tag.Get("toml"), Help: f.Tag.Get("help"), Unit: "ns", or: math.NaN(), index: [2]int{i, j}}
			if unit, ok := f.Tag.Lookup("unit"); ok {
				p.Unit = unit
			}
			scan(f.Tag.Get("default"), "%g", &p.Default)
			scan(f.Tag.Get("range"), "%g,%g", &p.Min, &p.Max)
			if or, ok := f.Tag.Lookup("or"); ok {
				scan(or, "%g", &p.or)
			}
			all = append(all, p)
		}
	}
	return all
}

func scan(text, format string, into ...any) {
	if _, err := fmt.Sscanf(text, format, into...); err != nil {
		panic(fmt.Sprintf("timing: the tag %q: %v", text, err))
	}
}

// Of is the parameter's place in p.
func (a Param) Of(p *Params) *float64 {
	return reflect.ValueOf(p).Elem().Field(a.index[0]).Field(a.index[1]).Addr().Interface().(*float64)
}

func (a Param) check(v float64) error {
	if v >= a.Min && v <= a.Max || v == a.or {
		return nil
	}
	also := ""
	if !math.IsNaN(a.or) {
		also = fmt.Sprintf(", or %g", a.or)
	}
	return fmt.Errorf("%s = %g: want %g to %g %s%s (%s)", a.Name, v, a.Min, a.Max, a.Unit, also, a.Help)
}

// Default are the parameters' defaults.
func Default() Params {
	var p Params
	for _, a := range All {
		*a.Of(&p) = a.Default
	}
	return p
}

// Check says which parameters are outside their ranges or contradict each other, all of them at once.
func (p Params) Check() error {
	var bad []string
	for _, a := range All {
		if err := a.check(*a.Of(&p)); err != nil {
			bad = append(bad, err.Error())
		}
	}
	atMost := func(low float64, lowName string, high float64, highName string) {
		if low > high {
			bad = append(bad, fmt.Sprintf("%s = %g is more than %s = %g", lowName, low, highName, high))
		}
	}
	atMost(p.Cache.DDIOWays, "cache.ddio_ways", p.Cache.Ways, "cache.ways")
	for _, a := range All {
		v := *a.Of(&p)
		whole := a.Unit == "entries" || a.Unit == "lines" || a.Unit == "modules"
		if whole && v != math.Trunc(v) {
			bad = append(bad, fmt.Sprintf("%s = %g: want a whole number of %s", a.Name, v, a.Unit))
		}
	}
	if g := uint64(p.Memory.Granule); p.Memory.Granule != float64(g) || g&(g-1) != 0 {
		bad = append(bad, fmt.Sprintf("memory.granule = %g: want a power of two", p.Memory.Granule))
	}
	if len(bad) > 0 {
		return fmt.Errorf("timing: %s", strings.Join(bad, "; "))
	}
	return nil
}
