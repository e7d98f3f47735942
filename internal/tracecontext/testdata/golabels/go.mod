module golabels

go 1.21
