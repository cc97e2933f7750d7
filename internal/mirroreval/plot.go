package mirroreval

import (
	"image/color"
	"math"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"whale/mirror"
)

// colors of the strategies, legible for those who see few: by Okabe and Ito.
var colors = map[mirror.Strategy]color.Color{
	mirror.RemoteCommit:     color.RGBA{0x00, 0x72, 0xb2, 0xff},
	mirror.OrderedBuffering: color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	mirror.DDIODisabled:     color.RGBA{0x00, 0x9e, 0x73, 0xff},
}

// WritePlots draws slowdown.svg and speedup.svg into a folder and returns their paths.
func WritePlots(dir string, rows []Row) ([]string, error) {
	slowdown, speedup := filepath.Join(dir, "slowdown.svg"), filepath.Join(dir, "speedup.svg")
	if err := bars(slowdown, "Time of a transaction, in times of one without a mirror", rows, Mirrored, (*Row).Slowdown); err != nil {
		return nil, err
	}
	if err := bars(speedup, "Speed-up over sm-rc", rows, Mirrored[1:], (*Row).SpeedUp); err != nil {
		return nil, err
	}
	return []string{slowdown, speedup}, nil
}

func bars(path, title string, rows []Row, strategies []mirror.Strategy, of func(*Row, mirror.Strategy) float64) error {
	p := plot.New()
	p.Title.Text = title
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	width := vg.Points(48 / float64(len(strategies)))
	var names []string
	for _, group := range grouped(rows) {
		for i := range group {
			names = append(names, group[i].Workload)
		}
		names = append(names, "geometric mean")
	}
	for k, s := range strategies {
		var values plotter.Values
		for _, group := range grouped(rows) {
			for i := range group {
				values = append(values, height(of(&group[i], s)))
			}
			values = append(values, height(means(group, of)(s)))
		}
		chart, err := plotter.NewBarChart(values, width)
		if err != nil {
			return err
		}
		chart.Color, chart.LineStyle.Width = colors[s], 0
		chart.Offset = width * vg.Length(float64(k)-float64(len(strategies)-1)/2)
		p.Add(chart)
		p.Legend.Add(s.String(), chart)
	}
	p.Legend.Top = true
	p.NominalX(names...)
	return p.Save(vg.Points(80*float64(len(names)+1)), vg.Points(300), path)
}

// height is that of a bar: none for what is not to be had.
func height(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}
