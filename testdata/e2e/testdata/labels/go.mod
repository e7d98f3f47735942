module labels

go 1.21
