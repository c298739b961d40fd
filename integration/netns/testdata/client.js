require('http').get(process.argv[2], (response) => response.pipe(process.stdout));
