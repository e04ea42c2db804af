ENUMS = {}
