package timing

import "math"

// costs are the parameters as the model uses them.
type costs struct {
	post, postBatched, poll                      ps
	clwb, clwbWay, ntWay, fence, eadrFence       ps // way: from the instruction to the write queue
	cacheHit, dramLoad                           ps
	pipeline, payloadFetch, message, perQP, miss ps
	inline, header                               uint64
	perByte                                      float64 // ps
	hop, pcieWrite, pcieRead                     ps
	writeBack, writeBackLine                     ps
	readLatency                                  ps
	toBuffer, toMedia                            ps // a line into a module's buffer, a granule from it to the media
	readPerLine                                  ps // of all modules
	granule                                      uint64
	eadr                                         bool
	withdraw, connect, register                  ps
	stall, stallMin, stallMax                    float64
	roundTrip                                    ps // of a small Write, as far as it varies
}

func costsOf(p Params) costs {
	t := func(ns float64) ps { return ps(math.Round(ns * 1000)) }
	line := func(bytes, gbs float64) ps { return t(bytes / gbs) }
	c := costs{
		post: t(p.CPU.Post), postBatched: t(p.CPU.PostBatched), poll: t(p.CPU.Poll),
		clwb: t(p.CPU.Clwb), clwbWay: t(p.CPU.ClwbFence - p.CPU.Clwb), ntWay: t(p.CPU.NTFence - p.CPU.Clwb), eadrFence: t(p.CPU.EADRFence),
		cacheHit: t(p.CPU.CacheHit), dramLoad: t(p.CPU.DRAMLoad),
		pipeline: t(p.NIC.Pipeline), payloadFetch: t(p.NIC.PayloadFetch), message: t(1000 / p.NIC.Rate), perQP: t(1000 / p.NIC.QueuePairRate), miss: t(p.NIC.CacheMiss),
		inline: uint64(p.NIC.Inline), header: uint64(p.Link.Header), perByte: 1000 / p.Link.Bandwidth,
		hop: t(p.Link.Switch), pcieWrite: t(p.PCIe.Write), pcieRead: t(p.PCIe.Read),
		writeBack: t(p.Memory.WriteBack), writeBackLine: t(p.Memory.WriteBackLine), readLatency: t(p.Memory.ReadLatency),
		toBuffer: line(lineSize, p.Memory.ReadRate), toMedia: line(p.Memory.Granule, p.Memory.WriteRate),
		readPerLine: line(lineSize, p.Memory.ReadRate*p.Memory.Modules),
		granule:     uint64(p.Memory.Granule), eadr: p.Memory.EADR,
		withdraw: t(p.Permission.Flags), connect: t(p.Permission.QueuePair), register: t(p.Permission.Reregister),
		stall: p.Tail.Stall, stallMin: p.Tail.StallMin, stallMax: p.Tail.StallMax,
	}
	if p.Memory.CXL { // no granule: the media takes a line as fast as the buffer does
		c.readLatency, c.granule, c.toMedia = t(p.Memory.CXLLoad), lineSize, c.toBuffer
	}
	c.roundTrip = 2*c.pcieWrite + 4*c.pipeline + 2*c.hop
	return c
}

// wire is how long a message with a payload of n bytes occupies the link.
func (c *costs) wire(n uint64) ps { return ps(float64(c.header+n) * c.perByte) }
